"""Deadlines: attempts past their timeout, steps that nobody begins, and executions past theirs."""

from __future__ import annotations

import os

from orchestrator.engine.advance import advance
from orchestrator.engine.overdue import GRACE, fail_overdue, fail_unbegun
from orchestrator.ledger import timers
from orchestrator.recovery.sweep import LIMIT, Context, Sweep


def sweep(context: Context) -> int:
    """Settle overdue attempts with their own token, steps that nobody began in time, and flag overdue executions."""
    core, connection = context.core, context.connection
    overdue = timers.overdue(connection, LIMIT, GRACE)
    for found in overdue:
        fail_overdue(core, connection, found)
    unbegun = timers.unbegun(connection, LIMIT)
    # Claimed under the name of this process: if it dies in between, its claims are released like any other's.
    ended = sum(fail_unbegun(core, connection, found, owner=f"{context.observer}.{os.getpid()}") for found in unbegun)
    expired = timers.expire(connection, LIMIT)
    for execution_id in expired:
        advance(core, connection, execution_id)
    return max(len(overdue), ended, len(expired))


SWEEP = Sweep(name="deadlines", interval=lambda settings: settings.sweep_deadlines, sweep=sweep)
