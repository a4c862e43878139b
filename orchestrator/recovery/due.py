"""Due timers: retries of steps and executions, and delayed starts, whose time has come."""

from __future__ import annotations

from contextlib import suppress

from orchestrator.engine.advance import AT_ONCE, advance_many
from orchestrator.engine.apart import Apart
from orchestrator.engine.reopen import retry
from orchestrator.errors import ControlRefused
from orchestrator.ledger import timers
from orchestrator.ledger.controls import By
from orchestrator.recovery.sweep import LIMIT, Context, Sweep

#: Who retries, in the audit.
_ITSELF = By(actor="orchestrator", reason="execution_retry of its definition")


def sweep(context: Context) -> int:
    """Make due steps ready and publish them, and take failed executions up again."""
    with Apart() as apart:
        count = 0
        while count < LIMIT and (due := timers.due(context.connection, AT_ONCE)):
            count += len(due)
            with apart.one():
                advance_many(context.core, context.connection, due)
        failed = timers.retries_due(context.connection, LIMIT)
        for execution_id in failed:
            # Another sweep may be at it, or an operator.
            with apart.one(execution_id), suppress(ControlRefused):
                retry(context.core, context.connection, execution_id, _ITSELF, by_itself=True)
    return max(count, len(failed))


SWEEP = Sweep(name="timers", interval=lambda settings: settings.sweep_timers, sweep=sweep)
