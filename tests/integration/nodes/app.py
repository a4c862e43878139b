"""The Celery application of worker and beat processes: `celery -A nodes.app worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from orchestrator import Orchestrator
from orchestrator.telemetry import configure_logging

orchestrator = Orchestrator()
app = orchestrator.app
#: Seconds; of Celery's own settings one that some tests want.
app.conf.worker_soft_shutdown_timeout = float(os.environ.get("SOFT_SHUTDOWN", "0"))


@signals.setup_logging.connect
def configure(**_: Any) -> None:
    """Log the fields of each record too."""
    configure_logging(as_json=False)
