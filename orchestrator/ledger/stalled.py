"""Executions that nothing would move: flagged and not drained, drained and not ended, or without any open step.

Each is what a crash between two statements leaves behind; `advance` takes them up where it was.

One that waits for a part of it to go back is not among them, nor one that waits for its children to, or for stragglers:
the end of each of these advances it. Whoever ends one may die before that; then it is open no more, or the note is
gone, and the execution is found. What waits so may do that for hours, and be many: among them, others would not be
found. Whoever has drained a parent may die before it cancels the children; then one of them goes forward still, and the
parent is found, too, or the child by itself, as its step is cancelled (ledger/children.py).
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from orchestrator.ledger.stragglers import at_work
from orchestrator.ledger.tables import FINAL, OPEN

_CHILDREN = "SELECT FROM orchestrator.execution c WHERE c.parent_id = x.id AND c.status"
#: Of a drained execution: children are open, and all of them go back.
_CHILDREN_GO_BACK = f"""
    EXISTS ({_CHILDREN} NOT IN ({FINAL}))
    AND NOT EXISTS ({_CHILDREN} IN ('created', 'running', 'pausing', 'paused'))
"""

STALLED = text(f"""
SELECT x.id FROM orchestrator.execution x
WHERE x.status NOT IN ({FINAL}) AND x.status <> 'paused' AND x.created_at < clock_timestamp() - interval '2 seconds'
  AND (
    (x.status = 'pausing'
     AND NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.status = 'running'))
    OR (x.status NOT IN ('pausing', 'failing', 'cancelling', 'timing_out')
        AND NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.{OPEN}))
    OR (x.status IN ('failing', 'cancelling', 'timing_out') AND (
        EXISTS (SELECT FROM orchestrator.step s
                WHERE s.execution_id = x.id AND s.undoes IS NULL AND NOT s.halt AND s.{OPEN})
        OR NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.{OPEN})
        AND NOT {at_work("x.id")}
        AND NOT ({_CHILDREN_GO_BACK}))
    )
  )
LIMIT :limit
""")


def stalled(connection: Connection, limit: int) -> list[str]:
    """Ids of executions that need somebody to advance them."""
    return [str(found) for found in connection.execute(STALLED, {"limit": limit}).scalars()]
