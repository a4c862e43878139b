"""Deadlines: attempts past their timeout and executions past theirs."""

from __future__ import annotations

from orchestrator.engine.advance import advance
from orchestrator.engine.mend import fail_attempt
from orchestrator.ledger import timers
from orchestrator.model.outcome import Failure
from orchestrator.recovery.sweep import LIMIT, Context, Sweep

#: A worker interrupts its own attempts at their timeout; the sweep fences those that it could not, in seconds after.
GRACE = 2.0


def sweep(context: Context) -> int:
    """Settle overdue attempts with their own token, and flag overdue executions."""
    core, connection = context.core, context.connection
    overdue = timers.overdue(connection, LIMIT, GRACE)
    failure = Failure(
        category="timeout",
        name="AttemptTimedOut",
        message="the attempt passed its timeout and was fenced",
        classes=("AttemptTimedOut",),
    )
    for held in overdue:
        fail_attempt(core, connection, held, failure)
    expired = timers.expire(connection, LIMIT)
    for execution_id in expired:
        advance(core, connection, execution_id)
    return max(len(overdue), len(expired))


SWEEP = Sweep(name="deadlines", interval=lambda settings: settings.sweep_deadlines, sweep=sweep)
