"""Reading what operators have done by hand. Each entry was written by the statement that carried its command out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One command that took effect."""

    id: int
    at: datetime
    actor: str
    #: cancel, pause, resume, retry, skip, complete, compensate, fork, maintenance ...
    command: str
    #: What it was done to; None for what concerns the whole tenant.
    execution_id: str | None
    path: str | None
    reason: str | None
    parameters: dict[str, Any]


ENTRIES = text("""
SELECT id, at, actor, command, execution_id, path, reason, parameters - 'command_id' AS parameters
FROM orchestrator.audit
WHERE tenant = :tenant AND (execution_id = CAST(:execution AS uuid) OR CAST(:execution AS uuid) IS NULL)
  AND (actor = :actor OR CAST(:actor AS text) IS NULL)
ORDER BY id DESC LIMIT :limit
""")


def entries(
    connection: Connection, tenant: str, execution_id: str | None = None, actor: str | None = None, *, limit: int
) -> list[Entry]:
    """What was done, newest first: by everybody to everything, or only to an execution, or only by somebody."""
    parameters = {"tenant": tenant, "execution": execution_id, "actor": actor, "limit": limit}
    return [_entry(row._mapping) for row in connection.execute(ENTRIES, parameters)]


def _entry(row: Any) -> Entry:
    execution_id = row["execution_id"]
    return Entry(**{**row, "execution_id": None if execution_id is None else str(execution_id)})
