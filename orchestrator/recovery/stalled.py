"""Stalled executions and steps: what a crash between two statements leaves behind."""

from __future__ import annotations

from orchestrator.engine.advance import advance
from orchestrator.engine.mend import cancel_orphans, decide_joins, tell_parents, wake_containers
from orchestrator.engine.signal import match_left
from orchestrator.ledger import children, joins, maintenance, parks, stalled
from orchestrator.recovery.sweep import LIMIT, Context, Sweep


def sweep(context: Context) -> int:
    """Decide joins and wake steps whose last arriver died, and advance executions that nothing else would."""
    core, connection = context.core, context.connection
    lost = joins.lost(connection, LIMIT)
    decide_joins(core, connection, lost)
    asleep = parks.asleep(connection, LIMIT)
    wake_containers(core, connection, asleep)
    untold = children.untold(connection, LIMIT)
    tell_parents(core, connection, untold)
    orphans = cancel_orphans(core, connection, LIMIT)
    unmatched = match_left(core, connection, LIMIT)
    maintenance.release_held(connection)
    found = stalled.stalled(connection, LIMIT)
    for execution_id in found:
        advance(core, connection, execution_id)
    return max(len(lost), len(asleep), len(untold), orphans, unmatched, len(found))


SWEEP = Sweep(name="stalled", interval=lambda settings: settings.sweep_stalled, sweep=sweep)
