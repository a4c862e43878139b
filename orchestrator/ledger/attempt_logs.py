"""What attempts logged. Written in batches by each worker process, beside its steps and never on their way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

#: A batch that is sent twice, because its reply was lost, is kept once.
KEEP = text("""
INSERT INTO orchestrator.attempt_log (execution_id, path, attempt, number, tenant, at, level, logger, message, fields)
SELECT r.execution_id, r.path, r.attempt, r.number, x.tenant, to_timestamp(r.at), r.level, r.logger, r.message, r.fields
FROM jsonb_to_recordset(CAST(:records AS jsonb)) AS r(
    execution_id uuid, path text, attempt int, number int, at float8, level smallint, logger text, message text,
    fields jsonb)
JOIN orchestrator.execution x ON x.id = r.execution_id
ON CONFLICT DO NOTHING
""")

#: By time; within an attempt by number, as a worker's clock may step back.
READ = text("""
SELECT path, attempt, number, at, level, logger, message, fields FROM orchestrator.attempt_log
WHERE execution_id = :execution AND (path = :path OR CAST(:path AS text) IS NULL) AND level >= :level
ORDER BY max(at) OVER (PARTITION BY path, attempt ORDER BY number), path, attempt, number
""")


def keep(connection: Connection, records: Sequence[dict[str, Any]]) -> None:
    """Insert records: execution_id, path, attempt, number, at (seconds since 1970), level, logger, message, fields."""
    connection.execute(KEEP, {"records": json.dumps(records)})


def read(connection: Connection, execution_id: str, *, path: str | None, level: int) -> list[dict[str, Any]]:
    """What an execution's attempts logged, oldest first.

    Args:
        path: only of this step or compensation.
        level: the least, as Python's logging counts.
    """
    rows = connection.execute(READ, {"execution": execution_id, "path": path, "level": level})
    return [dict(row._mapping) for row in rows]
