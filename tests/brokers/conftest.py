"""RabbitMQ and a pooler, unless BROKER and POOLER say otherwise (servers/chosen.py)."""

from __future__ import annotations

import os

os.environ.setdefault("BROKER", "amqp")
os.environ.setdefault("POOLER", "1")
