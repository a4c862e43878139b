"""What time brings: due retries and starts, and attempts past their timeout.

Any number of sweeps may look at once: SKIP LOCKED shares the rows out, and each UPDATE asks again for what it found.
`(SELECT clock_timestamp())` is one value for the statement, which an index can be searched with.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim
from orchestrator.ledger.signals import UNTAKEN

DUE = text(f"""
WITH found AS MATERIALIZED (
    SELECT w.execution_id, w.path FROM orchestrator.step w
    WHERE w.status IN ('retrying', 'waiting') AND NOT w.halt AND w.due_at <= (SELECT clock_timestamp())
      -- An accepted signal comes before the timer, even if its sender has died before it could wake anybody.
      AND NOT (coalesce(w.awaits, '') IN ('signal', 'event') AND EXISTS ({UNTAKEN}))
      -- A body that is broken off wakes its step with its own error, once nothing of it runs any more.
      AND NOT (w.status = 'waiting' AND w.woken_by IS NOT DISTINCT FROM 'broken')
      -- Nothing begins while its tenant is in maintenance. Only the first steps of what has not begun wait unattempted.
      AND NOT (w.status = 'waiting' AND w.attempt = 0
               AND EXISTS (SELECT FROM orchestrator.maintenance m WHERE m.tenant = w.tenant))
    ORDER BY w.due_at LIMIT :limit FOR UPDATE OF w SKIP LOCKED
), r AS (
    UPDATE orchestrator.step s SET status = 'ready', due_at = NULL, ready_xid = pg_current_xact_id(),
           ready_at = clock_timestamp(), awaits = NULL, wait_name = NULL, correlation = NULL,
           woken_by = CASE WHEN s.status = 'waiting' THEN 'due' ELSE s.woken_by END
    FROM found
    WHERE s.execution_id = found.execution_id AND s.path = found.path AND s.status IN ('retrying', 'waiting')
    RETURNING s.execution_id, s.path, s.tenant
), x AS (
    UPDATE orchestrator.execution SET status = 'running',
           deadline = clock_timestamp() + allowance * interval '1 second'
    WHERE id IN (SELECT execution_id FROM r) AND status = 'created' RETURNING id, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path)
    SELECT id, tenant, 'execution_running', NULL FROM x
    UNION ALL SELECT execution_id, tenant, 'step_ready', path FROM r
)
SELECT execution_id, path FROM r
""")

OVERDUE = text("""
SELECT execution_id, path, attempt, owner, failures, CAST(extract(epoch FROM due_at - started_at) AS float8)
FROM orchestrator.step
WHERE status = 'running' AND due_at < (SELECT clock_timestamp()) - CAST(:grace AS float8) * interval '1 second'
ORDER BY due_at LIMIT :limit
""")


def due(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Make ready what waited for a time that has come; execution ids and paths, to be published."""
    return [(str(row[0]), row[1]) for row in connection.execute(DUE, {"limit": limit})]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overdue:
    """An attempt that has passed its time."""

    held: Claim
    #: Seconds from its begin to the time that it has passed: its timeout, unless it had to be heard before.
    allowed: float


def overdue(connection: Connection, limit: int, grace: float) -> list[Overdue]:
    """Attempts that have passed their timeout by `grace` seconds, within which their workers should have ended them.

    Nothing is changed: the sweep settles each with its own token, so whoever is first wins.
    """
    return [
        Overdue(
            held=Claim(execution_id=str(row[0]), path=row[1], attempt=row[2], owner=row[3], failures=row[4]),
            allowed=row[5],
        )
        for row in connection.execute(OVERDUE, {"limit": limit, "grace": grace})
    ]


#: Failed executions that are taken up again by themselves; children only while a step waits for them.
RETRIES_DUE = text("""
SELECT id FROM orchestrator.execution x
WHERE retry_at <= (SELECT clock_timestamp()) AND status = 'failed' AND (parent_id IS NULL OR EXISTS (
    SELECT FROM orchestrator.execution p JOIN orchestrator.step s ON s.execution_id = p.id AND s.path = x.parent_path
    WHERE p.id = x.parent_id AND p.status = 'running' AND s.status = 'waiting' AND s.wait_name = x.id::text))
  AND NOT EXISTS (SELECT FROM orchestrator.maintenance m WHERE m.tenant = x.tenant)
ORDER BY retry_at LIMIT :limit
""")


def retries_due(connection: Connection, limit: int) -> list[str]:
    """Failed executions whose next retry has come; nothing is changed, as each is retried by a guarded statement."""
    return [str(found) for found in connection.execute(RETRIES_DUE, {"limit": limit}).scalars()]


#: Executions past their deadline, which counts from their first start, stop going forward; running attempts drain.
EXPIRE = text("""
WITH found AS MATERIALIZED (
    SELECT id FROM orchestrator.execution
    WHERE status = 'running' AND deadline < (SELECT clock_timestamp())
    ORDER BY deadline LIMIT :limit FOR UPDATE SKIP LOCKED
), x AS (
    UPDATE orchestrator.execution SET status = 'timing_out', error = jsonb_build_object(
           'category', 'timeout', 'name', 'DeadlineExceeded', 'message', 'the execution passed its deadline'),
           rollback = rollback AND NOT EXISTS (SELECT FROM orchestrator.definition d
                                               WHERE d.id = definition_id AND d.spec ->> 'on_timeout' = 'stop')
    FROM found WHERE execution.id = found.id AND status = 'running' RETURNING execution.id, tenant, error
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_timing_out', jsonb_build_object('error', error) FROM x
)
SELECT id FROM x
""")


def expire(connection: Connection, limit: int) -> list[str]:
    """Flag executions past their deadline; their ids, to be advanced."""
    return [str(found) for found in connection.execute(EXPIRE, {"limit": limit}).scalars()]


#: Steps that a worker must begin in time, and that time. Few definitions have any.
PATIENCES = text("""
SELECT d.id, found ->> 'id', min(CAST(found ->> 'start_timeout' AS float8)) FROM orchestrator.definition d,
       jsonb_path_query(d.spec, '$.** ? (@.start_timeout.type() == "number" && @.id.type() == "string")') found
GROUP BY 1, 2
""")

#: Reads what is ready, by its partial index; only where some definition asks for it. Only of steps that must begin in
#: time: those that may wait can be any number, and would stand before them. A step's id is the last part of its path.
UNBEGUN = text("""
SELECT s.execution_id, s.path, x.definition_id, extract(epoch FROM clock_timestamp() - s.ready_at)
FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id,
     unnest(CAST(:definitions AS uuid[]), CAST(:steps AS text[]), CAST(:patiences AS float8[])) AS d(id, step, shortest)
WHERE s.status = 'ready' AND NOT s.halt AND s.undoes IS NULL AND x.status = 'running'
  AND x.definition_id = d.id AND regexp_replace(s.path, '^.*[./]', '') = d.step
  AND s.ready_at < (SELECT clock_timestamp()) - d.shortest * interval '1 second'
ORDER BY s.ready_at LIMIT :limit
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unbegun:
    """A step that has been ready for a while."""

    execution_id: str
    path: str
    definition_id: str
    #: Seconds since it became ready.
    waited: float


def unbegun(connection: Connection, limit: int) -> list[Unbegun]:
    """Steps that must begin in time and have been ready for long; what each may wait is its definition's word.

    Nothing is changed: whoever ends one claims it first, and so does a worker that begins it.
    """
    found = list(connection.execute(PATIENCES))
    if not found:
        return []
    definitions, steps, patiences = (list(column) for column in zip(*found, strict=True))
    parameters = {"definitions": definitions, "steps": steps, "patiences": patiences, "limit": limit}
    return [
        Unbegun(execution_id=str(row[0]), path=row[1], definition_id=str(row[2]), waited=float(row[3]))
        for row in connection.execute(UNBEGUN, parameters)
    ]
