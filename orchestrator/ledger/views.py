"""Reading executions for people and programs. Nothing here is on a step's path."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

STATUS = text("""
SELECT status, output, error, retry_at IS NOT NULL, purged_at FROM orchestrator.execution WHERE id = :execution
""")

EXECUTION = text("SELECT * FROM orchestrator.execution WHERE id = :execution")

STEPS = text("""
SELECT s.path, s.status, s.exit, s.attempt, s.failures, s.queue, s.owner, s.halt, s.undoes, s.awaits, s.wait_name,
       s.correlation, s.ready_at, s.started_at, s.due_at, s.settled_at, s.progress,
       s.output, s.error
FROM orchestrator.step s LEFT JOIN (
    SELECT path, min(id) AS id FROM orchestrator.event WHERE execution_id = :execution GROUP BY path
) first USING (path)
WHERE s.execution_id = :execution
ORDER BY first.id, s.path
""")

EVENTS = text("""
SELECT id, type, path, attempt, data, at FROM orchestrator.event
WHERE execution_id = :execution AND id > :after ORDER BY id LIMIT :limit
""")

COUNTS = text("""
SELECT status, count(*) FROM orchestrator.execution
WHERE tenant = :tenant AND (definition_name = :name OR CAST(:name AS text) IS NULL) GROUP BY status
""")


def outcome(connection: Connection, execution_id: str) -> tuple[str, Any, Any, bool, datetime | None] | None:
    """Status, output and error of an execution, whether it is retried by itself, and when it was purged; None when
    there is none."""
    row = connection.execute(STATUS, {"execution": execution_id}).first()
    return None if row is None else (row[0], row[1], row[2], row[3], row[4])


def status(connection: Connection, execution_id: str) -> tuple[str, Any, Any] | None:
    """Status, output and error of an execution; None when there is none."""
    row = connection.execute(STATUS, {"execution": execution_id}).first()
    return None if row is None else (row[0], row[1], row[2])


def execution(connection: Connection, execution_id: str) -> dict[str, Any] | None:
    """Everything on an execution's own row; None when there is none."""
    row = connection.execute(EXECUTION, {"execution": execution_id}).first()
    return None if row is None else dict(row._mapping)


def steps(connection: Connection, execution_id: str) -> list[dict[str, Any]]:
    """An execution's steps and compensations, in the order in which they appeared."""
    return [dict(row._mapping) for row in connection.execute(STEPS, {"execution": execution_id})]


def events(connection: Connection, execution_id: str, after: int = 0, limit: int = 1_000) -> list[dict[str, Any]]:
    """An execution's history after the event with id `after`, oldest first."""
    rows = connection.execute(EVENTS, {"execution": execution_id, "after": after, "limit": limit})
    return [dict(row._mapping) for row in rows]


def counts(connection: Connection, *, tenant: str, name: str | None) -> dict[str, int]:
    """How many executions are in each status."""
    return {row[0]: row[1] for row in connection.execute(COUNTS, {"tenant": tenant, "name": name})}


STATE = text("SELECT state FROM orchestrator.execution WHERE id = :execution")


def state(connection: Connection, execution_id: str) -> str | None:
    """The state of a machine; None for any other execution, and for none."""
    found: str | None = connection.execute(STATE, {"execution": execution_id}).scalar()
    return found
