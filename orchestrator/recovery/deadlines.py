"""Deadlines: attempts past their timeout and executions past theirs."""

from __future__ import annotations

from orchestrator.engine.advance import advance
from orchestrator.engine.overdue import GRACE, fail_overdue
from orchestrator.ledger import timers
from orchestrator.recovery.sweep import LIMIT, Context, Sweep


def sweep(context: Context) -> int:
    """Settle overdue attempts with their own token, and flag overdue executions."""
    core, connection = context.core, context.connection
    overdue = timers.overdue(connection, LIMIT, GRACE)
    for found in overdue:
        fail_overdue(core, connection, found)
    expired = timers.expire(connection, LIMIT)
    for execution_id in expired:
        advance(core, connection, execution_id)
    return max(len(overdue), len(expired))


SWEEP = Sweep(name="deadlines", interval=lambda settings: settings.sweep_deadlines, sweep=sweep)
