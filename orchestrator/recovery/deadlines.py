"""Deadlines: attempts past their timeout, steps that nobody begins, and executions past theirs."""

from __future__ import annotations

import os

from orchestrator.engine.apart import Apart
from orchestrator.engine.mend import take_up
from orchestrator.engine.overdue import GRACE, fail_overdue, fail_unbegun
from orchestrator.ledger import timers
from orchestrator.recovery.sweep import LIMIT, Context, Sweep


def sweep(context: Context) -> int:
    """Settle overdue attempts with their own token, steps that nobody began in time, and flag overdue executions."""
    core, connection = context.core, context.connection
    counts, ended = [], 0
    with Apart() as apart:
        with apart.one():
            counts.append(len(overdue := timers.overdue(connection, LIMIT, GRACE)))
            for found in overdue:
                with apart.one(found.held.execution_id):
                    fail_overdue(core, connection, found)
        with apart.one():
            # Claimed under the name of this process: if it dies in between, its claims are released like any other's.
            owner = f"{context.observer}.{os.getpid()}"
            for unbegun in timers.unbegun(connection, LIMIT):
                with apart.one(unbegun.execution_id):
                    ended += fail_unbegun(core, connection, unbegun, owner=owner)
        with apart.one():
            counts.append(len(expired := timers.expire(connection, LIMIT)))
            take_up(core, connection, expired)
    return max(*counts, ended)


SWEEP = Sweep(name="deadlines", interval=lambda settings: settings.sweep_deadlines, sweep=sweep)
