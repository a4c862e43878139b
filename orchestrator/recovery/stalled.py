"""Stalled executions and steps: what a crash between two statements leaves behind."""

from __future__ import annotations

from orchestrator.engine.apart import Apart
from orchestrator.engine.mend import cancel_orphans, decide_joins, take_up, tell_parents, wake_containers
from orchestrator.engine.reopen import retry_awaited
from orchestrator.engine.signal import match_left
from orchestrator.ledger import children, joins, maintenance, parks, stalled
from orchestrator.ledger.controls import By
from orchestrator.recovery.sweep import LIMIT, Context, Sweep

#: Who retries, in the audit.
_WITH_PARENT = By(actor="orchestrator", reason="its parent was retried")


def sweep(context: Context) -> int:
    """Decide joins and wake steps whose last arriver died, and advance executions that nothing else would."""
    core, connection = context.core, context.connection
    counts = []
    with Apart() as apart:
        with apart.one():
            counts.append(len(lost := joins.lost(connection, LIMIT)))
            decide_joins(core, connection, lost)
        with apart.one():
            counts.append(len(asleep := parks.asleep(connection, LIMIT)))
            wake_containers(core, connection, asleep)
        with apart.one():
            counts.append(len(untold := children.untold(connection, LIMIT)))
            tell_parents(core, connection, [child for child, passed_over in untold if not passed_over])
            for child in (child for child, passed_over in untold if passed_over):
                with apart.one(child):
                    retry_awaited(core, connection, child, _WITH_PARENT)
        with apart.one():
            counts.append(cancel_orphans(core, connection, LIMIT))
        with apart.one():
            counts.append(match_left(core, connection, LIMIT))
        with apart.one():
            maintenance.release_held(connection)
        with apart.one():
            counts.append(len(found := stalled.stalled(connection, LIMIT)))
            take_up(core, connection, found)
    return max(counts)


SWEEP = Sweep(name="stalled", interval=lambda settings: settings.sweep_stalled, sweep=sweep)
