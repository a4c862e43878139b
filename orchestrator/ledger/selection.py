"""Which executions are meant: by definition, status, labels, age. For lists, and for commands to many at once.

Pages go by id, newest first: an execution that is started meanwhile, or whose status a command has just changed,
neither shifts a page nor is met twice. Nothing is locked; what is done with an execution asks again for all that it
depends on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

#: Executions that one statement reads.
PAGE = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What an execution must be to be meant; whatever is left out does not matter."""

    tenant: str
    #: The definition's.
    name: str | None = None
    #: One of these; none means any.
    statuses: tuple[str, ...] = ()
    #: It has all of these.
    labels: Mapping[str, str] = field(default_factory=dict)
    correlation: str | None = None
    #: Started more, or less, than so many seconds ago.
    older_than: float | None = None
    newer_than: float | None = None
    #: Only those that no other execution waits for.
    roots: bool = False
    #: It has a row for the step at this path, in one of these statuses.
    step: str | None = None
    step_statuses: tuple[str, ...] = ()


SELECT = text("""
SELECT id, tenant, definition_name, definition_version, status, idempotency_key, correlation_id, labels, created_at,
       settled_at
FROM orchestrator.execution
WHERE tenant = :tenant
  AND (definition_name = :name OR CAST(:name AS text) IS NULL)
  AND (status = ANY(CAST(:statuses AS text[])) OR CAST(:statuses AS text[]) IS NULL)
  AND (correlation_id = :correlation OR CAST(:correlation AS text) IS NULL)
  AND labels @> CAST(:labels AS jsonb)
  AND (created_at < statement_timestamp() - CAST(:older_than AS float8) * interval '1 second'
       OR CAST(:older_than AS float8) IS NULL)
  AND (created_at > statement_timestamp() - CAST(:newer_than AS float8) * interval '1 second'
       OR CAST(:newer_than AS float8) IS NULL)
  AND (parent_id IS NULL OR NOT CAST(:roots AS boolean))
  AND (CAST(:step AS text) IS NULL OR EXISTS (
      SELECT FROM orchestrator.step s
      WHERE s.execution_id = execution.id AND s.path = :step AND s.status = ANY(CAST(:step_statuses AS text[]))))
  AND (id < CAST(:before AS uuid) OR CAST(:before AS uuid) IS NULL)
ORDER BY id DESC LIMIT :limit
""")


def selected(connection: Connection, selection: Selection, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The executions that are meant, newest first; read page by page as they are asked for.

    Args:
        limit: so many at most.
    """
    before, left = None, limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = _page(connection, selection, before, size)
        yield from page
        if len(page) < size:
            return
        before = page[-1]["id"]
        left = None if left is None else left - size


def _page(connection: Connection, selection: Selection, before: object, limit: int) -> list[dict[str, Any]]:
    parameters = {
        "tenant": selection.tenant,
        "name": selection.name,
        "statuses": list(selection.statuses) or None,
        "labels": json.dumps(dict(selection.labels)),
        "correlation": selection.correlation,
        "older_than": selection.older_than,
        "newer_than": selection.newer_than,
        "roots": selection.roots,
        "step": selection.step,
        "step_statuses": list(selection.step_statuses),
        "before": before,
        "limit": limit,
    }
    return [dict(row._mapping) for row in connection.execute(SELECT, parameters)]
