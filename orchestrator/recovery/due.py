"""Due timers: retries of steps and executions, and delayed starts, whose time has come."""

from __future__ import annotations

import logging

from orchestrator.engine.advance import advance_many
from orchestrator.engine.reopen import retry
from orchestrator.errors import ControlRefused, OrchestratorError
from orchestrator.ledger import timers
from orchestrator.ledger.controls import By
from orchestrator.recovery.sweep import LIMIT, Context, Sweep

logger = logging.getLogger("orchestrator.recovery")

#: Who retries, in the audit.
_ITSELF = By(actor="orchestrator", reason="execution_retry of its definition")


def sweep(context: Context) -> int:
    """Make due steps ready and publish them, and take failed executions up again."""
    due = timers.due(context.connection, LIMIT)
    advance_many(context.core, context.connection, due)
    failed = timers.retries_due(context.connection, LIMIT)
    for execution_id in failed:
        # Another sweep may be at it, or an operator.
        try:
            retry(context.core, context.connection, execution_id, _ITSELF, by_itself=True)
        except ControlRefused:
            continue
        except OrchestratorError:
            # Its definition cannot be read here, say: the others are not to wait for that.
            logger.exception("an execution could not be retried", extra={"execution_id": execution_id})
    return max(len(due), len(failed))


SWEEP = Sweep(name="timers", interval=lambda settings: settings.sweep_timers, sweep=sweep)
