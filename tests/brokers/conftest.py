"""RabbitMQ and a pooler, unless BROKER and POOLER say otherwise (servers/chosen.py)."""

from __future__ import annotations

import os

import pytest
from servers.debian import missing

CHOSEN = {"BROKER": "amqp", "POOLER": "1"}
for name, value in CHOSEN.items():
    os.environ.setdefault(name, value)
if remedy := missing({name: os.environ[name] for name in CHOSEN}):
    pytest.exit(remedy, returncode=pytest.ExitCode.USAGE_ERROR)
