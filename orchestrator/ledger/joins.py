"""When all parents of a step have settled.

Every parent's settle inserts the blocked row (the first wins) and commits; then this statement, alone, turns it ready
if every parent has succeeded. Two last arrivers both run it: the one that commits last sees both. Asking inside the
settling transaction would not do, as neither would see the other; a counter row would serialise the whole fan-out.
A crash between commit and join leaves a row that the stalled sweep finds.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

#: A scalar subquery per parent, so that the search stops at the first unsettled one however many there are.
_ALL_SUCCEEDED = """
    NOT EXISTS (SELECT FROM jsonb_array_elements_text(j.parents) AS p(path) WHERE (
        SELECT s.status FROM orchestrator.step s WHERE s.execution_id = j.execution_id AND s.path = p.path
    ) IS DISTINCT FROM 'succeeded')
"""

JOIN = text(f"""
WITH j AS (
    UPDATE orchestrator.step j SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp()
    WHERE execution_id = :execution AND path = :path AND status = 'blocked' AND undoes IS NULL AND NOT halt
      AND {_ALL_SUCCEEDED}
    RETURNING path, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path)
    SELECT :execution, tenant, 'step_ready', path FROM j
)
SELECT path FROM j
""")

#: A join row that is ready and was never claimed: its publisher may have died, so a redelivered header publishes it.
UNCLAIMED = text("""
SELECT FROM orchestrator.step
WHERE execution_id = :execution AND path = :path AND status = 'ready' AND attempt = 0
""")

#: Joins whose last arriver died between its commit and the join.
LOST = text(f"""
WITH found AS MATERIALIZED (
    SELECT execution_id, path FROM orchestrator.step j
    WHERE status = 'blocked' AND undoes IS NULL AND NOT halt AND ready_at < (SELECT clock_timestamp()) - interval '2 s'
      AND {_ALL_SUCCEEDED}
    LIMIT :limit FOR UPDATE SKIP LOCKED
), j AS (
    UPDATE orchestrator.step j SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp()
    FROM found WHERE j.execution_id = found.execution_id AND j.path = found.path AND j.status = 'blocked'
    RETURNING j.execution_id, j.path, j.tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path)
    SELECT execution_id, tenant, 'step_ready', path FROM j
)
SELECT execution_id, path FROM j
""")


def join(connection: Connection, execution_id: str, path: str) -> bool:
    """Make a blocked step ready if all its parents have succeeded; True to the one who did, and who publishes."""
    return connection.execute(JOIN, {"execution": execution_id, "path": path}).first() is not None


def unclaimed(connection: Connection, execution_id: str, path: str) -> bool:
    """Whether a join stands ready and nobody has ever claimed it."""
    return connection.execute(UNCLAIMED, {"execution": execution_id, "path": path}).first() is not None


def lost(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Make joins ready that nobody made ready; their execution ids and paths, to be published."""
    return [(str(row[0]), row[1]) for row in connection.execute(LOST, {"limit": limit})]
