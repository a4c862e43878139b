"""Reading an execution for the compiler. Recovery does; a step's own path never."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from orchestrator.model.identity import undone_path
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

#: Each undo names the one before it; the walk begins behind each that is ready.
PENDING_UNDO = text("""
WITH RECURSIVE chain AS (
    SELECT h.path AS head, h.path COLLATE "C" AS path, 0 AS place FROM unnest(CAST(:heads AS text[])) AS h(path)
    UNION ALL
    SELECT chain.head, s.path, chain.place + 1 FROM chain JOIN orchestrator.step s
      ON s.execution_id = :execution AND s.undoes IS NOT NULL AND s.status = 'blocked'
     AND s.parents = jsonb_build_array(chain.path)
    WHERE chain.place < :limit
)
SELECT head, path FROM chain WHERE place > 0 ORDER BY place
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
    pending: dict[str, list[str]] = defaultdict(list)
    if heads := [path for path in ready if undone_path(path) is not None]:
        parameters = {"execution": execution_id, "heads": heads, "limit": undo_limit}
        for head, path in connection.execute(PENDING_UNDO, parameters):
            pending[head].append(path)
    settled: Iterable[str] = ()
    if len(heads) < len(ready):
        settled = connection.execute(SETTLED_PARENTS, {"execution": execution_id}).scalars()
    return Snapshot(status=ExecutionStatus(status), ready=ready, settled=frozenset(settled), pending_undo=dict(pending))
