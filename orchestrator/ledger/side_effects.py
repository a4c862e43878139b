"""Values that an activity computes once: whoever inserts first decides, and all attempts get that value.

Two attempts at once may both have computed one. The insert of the second waits for the first's, does nothing, and the
second reads in a new statement, which sees what the first committed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

READ = text("""
SELECT value FROM orchestrator.side_effect WHERE execution_id = :execution AND path = :path AND name = :name
""")

RECORD = text("""
INSERT INTO orchestrator.side_effect (execution_id, path, name, tenant, value)
SELECT id, :path, :name, tenant, CAST(:value AS jsonb) FROM orchestrator.execution WHERE id = :execution
ON CONFLICT DO NOTHING RETURNING value
""")


def recorded(connection: Connection, execution_id: str, path: str, name: str) -> tuple[Any] | None:
    """The value that was recorded, which may be null; None when none was."""
    row = connection.execute(READ, {"execution": execution_id, "path": path, "name": name}).first()
    return None if row is None else (row[0],)


def record(connection: Connection, execution_id: str, path: str, name: str, value: str) -> Any:
    """Record a value, JSON text, unless another was first; the value that counts. LookupError without the execution."""
    key = {"execution": execution_id, "path": path, "name": name}
    row = connection.execute(RECORD, {**key, "value": value}).first() or connection.execute(READ, key).first()
    if row is None:
        raise LookupError(f"no execution has the id {execution_id}")
    return row[0]
