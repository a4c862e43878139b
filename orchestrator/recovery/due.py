"""Due timers: retries and delayed starts whose time has come."""

from __future__ import annotations

from orchestrator.engine.advance import advance_many
from orchestrator.ledger import timers
from orchestrator.recovery.sweep import LIMIT, Context, Sweep


def sweep(context: Context) -> int:
    """Make due steps ready and publish them."""
    due = timers.due(context.connection, LIMIT)
    advance_many(context.core, context.connection, due)
    return len(due)


SWEEP = Sweep(name="timers", interval=lambda settings: settings.sweep_timers, sweep=sweep)
