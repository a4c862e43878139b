"""Executions that are steps of others: told apart by `parent_id`, and waited for by their id."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.ledger.tables import FINAL
from orchestrator.model.identity import UNDO_PREFIX

#: In what a step remembers that waits for a child: which end of that it passes over, as a retry of the whole does.
#: Whoever retries works through the children one by one, and whoever told of those ends, as a sweep or a late message
#: of the child, would have the whole fail again.
PASSED_OVER = "passed_over"

#: Wakes the step that waits for a child which has ended. Sent after the child's end, and after the step was parked:
#: whichever comes last sees both. `anyway`: of an end that it passes over, too, as the child cannot be retried.
WAKE = text(f"""
WITH c AS MATERIALIZED (
    SELECT id, parent_id, parent_path, status, output, error, settled_at FROM orchestrator.execution
    WHERE id = :child AND parent_id IS NOT NULL AND status IN ({FINAL}) AND retry_at IS NULL
), u AS (
    UPDATE orchestrator.step s SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp(),
           due_at = NULL, awaits = NULL, wait_name = NULL,
           woken_by = CASE c.status WHEN 'succeeded' THEN 'child' ELSE 'broken' END,
           resume = coalesce(s.resume, '{{}}') || jsonb_build_object('status', c.status)
                    || CASE c.status WHEN 'succeeded' THEN jsonb_build_object('output', c.output) ELSE '{{}}' END,
           error = CASE c.status WHEN 'succeeded' THEN NULL ELSE coalesce(c.error, '{{}}') || jsonb_build_object(
               'category', coalesce(c.error ->> 'category', CASE c.status WHEN 'cancelled' THEN 'cancelled'
                                                            WHEN 'timed_out' THEN 'timeout' ELSE 'system' END),
               'name', coalesce(c.error ->> 'name', 'ChildFailed'),
               'message', format('%s ended %s: %s', c.id, c.status, coalesce(c.error ->> 'message', 'no error'))) END
    FROM c
    -- The step itself, or its compensation, which waits for the child to have gone back.
    WHERE s.execution_id = c.parent_id AND s.path IN (c.parent_path, '{UNDO_PREFIX}' || c.parent_path)
      AND s.status = 'waiting' AND s.awaits = 'child' AND s.wait_name = c.id::text AND NOT s.halt
      AND (CAST(:anyway AS boolean)
           OR CAST(s.resume ->> '{PASSED_OVER}' AS timestamptz) IS DISTINCT FROM c.settled_at)
    RETURNING s.execution_id, s.path, s.tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT execution_id, tenant, 'step_ready', path, jsonb_build_object('child', CAST(:child AS uuid)) FROM u
)
SELECT c.parent_id, (SELECT path FROM u), c.parent_path FROM c
""")

#: Attached children that go on.
OPEN_CHILDREN = text(f"""
SELECT id FROM orchestrator.execution
WHERE parent_id = :execution AND status NOT IN ({FINAL}) AND starts_with(parent_path, :inner)
""")

#: An operator may have had a step begin anew, with another child.
LATEST = text("""
SELECT id FROM orchestrator.execution WHERE parent_id = :execution AND parent_path = :path
ORDER BY created_at DESC LIMIT 1
""")

#: The steps whose children have succeeded.
SUCCEEDED = text("""
SELECT parent_path FROM orchestrator.execution WHERE parent_id = :execution AND status = 'succeeded'
""")

_PASSES_OVER = f"coalesce(CAST(s.resume ->> '{PASSED_OVER}' AS timestamptz) = c.settled_at, false)"

#: Children that have ended without anybody having told the step that waits for them, and whether it passes over that:
#: then they are retried, though not while their parent is paused, or nothing begins.
UNTOLD = text(f"""
SELECT s.wait_name, {_PASSES_OVER}
FROM orchestrator.step s JOIN orchestrator.execution c ON c.id = CAST(s.wait_name AS uuid)
WHERE s.status = 'waiting' AND s.awaits = 'child' AND s.ready_at < (SELECT clock_timestamp()) - interval '2 s'
  AND c.status IN ({FINAL}) AND c.retry_at IS NULL
  AND NOT ({_PASSES_OVER} AND (
      EXISTS (SELECT FROM orchestrator.execution p WHERE p.id = s.execution_id AND p.status IN ('pausing', 'paused'))
      OR EXISTS (SELECT FROM orchestrator.maintenance m WHERE m.tenant = s.tenant)))
LIMIT :limit
""")

#: Flags children whose step was cancelled, as the loser of a race or with a body that was broken off; or with the
#: whole, whose commander works through its children meanwhile, or has died before them. So what they did is undone or
#: kept as they would have it done (ledger/controls.py).
CANCEL_ORPHANS = text("""
WITH o AS MATERIALIZED (
    SELECT c.id, d.spec ->> 'on_cancel' IS DISTINCT FROM 'stop'
                 AND (p.rollback OR p.status NOT IN ('failing', 'cancelling', 'timing_out')) AS undo
    FROM orchestrator.execution c
    JOIN orchestrator.step s ON s.execution_id = c.parent_id AND s.path = c.parent_path
    JOIN orchestrator.execution p ON p.id = c.parent_id
    JOIN orchestrator.definition d ON d.id = c.definition_id
    WHERE c.parent_id IS NOT NULL AND c.status IN ('created', 'running', 'pausing', 'paused') AND s.status = 'cancelled'
    LIMIT :limit
), x AS (
    UPDATE orchestrator.execution e SET status = 'cancelling', paused_at = NULL, rollback = e.rollback AND o.undo,
           error = jsonb_build_object('category', 'cancelled', 'name', 'Cancelled', 'message',
                                      'the step that waited for it was cancelled')
    FROM o WHERE e.id = o.id AND e.status IN ('created', 'running', 'pausing', 'paused')
    RETURNING e.id, e.tenant, e.error
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_cancelling', jsonb_build_object('error', error) FROM x
)
SELECT id FROM x
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """The end of a child, as its parent was told of it."""

    execution_id: str
    #: The step that has started the child.
    path: str
    #: The path that was woken: that step's, or its compensation's; None when neither waits any more, or yet.
    woken: str | None


def wake(connection: Connection, child: str, *, anyway: bool = False) -> Told | None:
    """Wake the step that waits for a child that has ended; None when it has not ended, or has no parent.

    Args:
        anyway: though the step passes over that end.
    """
    row = connection.execute(WAKE, {"child": child, "anyway": anyway}).first()
    return None if row is None else Told(execution_id=str(row[0]), woken=row[1], path=row[2])


def open_children(connection: Connection, execution_id: str, inner: str = "") -> list[str]:
    """Ids of an execution's attached children that have not ended.

    Args:
        inner: only those of steps whose paths begin with this.
    """
    parameters = {"execution": execution_id, "inner": inner}
    return [str(found) for found in connection.execute(OPEN_CHILDREN, parameters).scalars()]


def succeeded(connection: Connection, execution_id: str) -> frozenset[str]:
    """Paths of an execution's steps whose own executions have succeeded."""
    return frozenset(connection.execute(SUCCEEDED, {"execution": execution_id}).scalars())


def latest(connection: Connection, execution_id: str, path: str) -> str | None:
    """The id of the last child that a step has started; None when it has none."""
    found = connection.execute(LATEST, {"execution": execution_id, "path": path}).scalar()
    return None if found is None else str(found)


def untold(connection: Connection, limit: int) -> list[tuple[str, bool]]:
    """Ids of children whose end nobody was told, and whether they are to be retried in the place of that."""
    return [(row[0], row[1]) for row in connection.execute(UNTOLD, {"limit": limit})]


def cancel_orphans(connection: Connection, limit: int) -> list[str]:
    """Flag children whose step was cancelled; their ids."""
    return [str(found) for found in connection.execute(CANCEL_ORPHANS, {"limit": limit}).scalars()]
