"""Reading an execution for the compiler. Recovery does; a step's own path never."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from orchestrator.ledger.tables import OPEN
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import ExecutionStatus

STATUS = text("SELECT status FROM orchestrator.execution WHERE id = :execution")

READY = text("""
SELECT path FROM orchestrator.step WHERE execution_id = :execution AND status = 'ready' AND NOT halt ORDER BY path
""")

#: Only joins ask who has settled, so only the parents of blocked rows are looked at.
SETTLED_PARENTS = text("""
SELECT DISTINCT s.path FROM orchestrator.step b, jsonb_array_elements_text(b.parents) AS p(path)
JOIN orchestrator.step s ON s.execution_id = :execution AND s.path = p.path AND s.status = 'succeeded'
WHERE b.execution_id = :execution AND b.status = 'blocked' AND b.undoes IS NULL
""")

#: Each undo names the one before it; the walk begins behind the first that is open and not blocked.
PENDING_UNDO = text(f"""
WITH RECURSIVE chain AS (
    SELECT path, 0 AS place FROM orchestrator.step
    WHERE execution_id = :execution AND undoes IS NOT NULL AND {OPEN} AND status <> 'blocked'
    UNION ALL
    SELECT s.path, chain.place + 1 FROM chain JOIN orchestrator.step s
      ON s.execution_id = :execution AND s.status = 'blocked' AND s.parents = jsonb_build_array(chain.path)
    WHERE chain.place < :limit
)
SELECT path FROM chain WHERE place > 0 ORDER BY place
""")


def snapshot(connection: Connection, execution_id: str, only: Sequence[str] | None, undo_limit: int) -> Snapshot | None:
    """An execution as the compiler needs it; None when there is none.

    Args:
        only: the ready paths to be published, for a caller that knows them; None takes all that are ready.
        undo_limit: how many compensations behind the ready one are of use.
    """
    status = connection.execute(STATUS, {"execution": execution_id}).scalar()
    if status is None:
        return None
    ready = tuple(connection.execute(READY, {"execution": execution_id}).scalars())
    if only is not None:
        ready = tuple(path for path in ready if path in set(only))
    if status == ExecutionStatus.COMPENSATING:
        rows = connection.execute(PENDING_UNDO, {"execution": execution_id, "limit": undo_limit})
        return Snapshot(status=ExecutionStatus(status), ready=ready, pending_undo=tuple(rows.scalars()))
    settled = connection.execute(SETTLED_PARENTS, {"execution": execution_id}).scalars()
    return Snapshot(status=ExecutionStatus(status), ready=ready, settled=frozenset(settled))
