"""An application that had Celery before, with results of its own: `celery -A nodes.legacy_app worker`."""

from __future__ import annotations

import os

from celery import Celery

from nodes import legacy
from orchestrator import Orchestrator

app = Celery(
    legacy.LEGACY,
    broker=os.environ["ORCHESTRATOR_BROKER_URL"],
    backend=os.environ["LEGACY_RESULTS"],
    set_as_current=False,
)
app.conf.update(task_default_queue=legacy.LEGACY, worker_hijack_root_logger=False, worker_prefetch_multiplier=1)
if "LEGACY_STRANGER" not in os.environ:
    Orchestrator().init_app(app)
