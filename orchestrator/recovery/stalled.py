"""Stalled executions and joins: what a crash between two statements leaves behind."""

from __future__ import annotations

from orchestrator.engine.advance import advance, advance_many
from orchestrator.ledger import joins, stalled
from orchestrator.recovery.sweep import LIMIT, Context, Sweep


def sweep(context: Context) -> int:
    """Make joins ready whose last arriver died, and advance executions that nothing else would."""
    lost = joins.lost(context.connection, LIMIT)
    advance_many(context.core, context.connection, lost)
    found = stalled.stalled(context.connection, LIMIT)
    for execution_id in found:
        advance(context.core, context.connection, execution_id)
    return max(len(lost), len(found))


SWEEP = Sweep(name="stalled", interval=lambda settings: settings.sweep_stalled, sweep=sweep)
