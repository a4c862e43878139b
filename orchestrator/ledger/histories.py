"""Histories and the rows that they must fold to, of many executions in one snapshot.

Read at REPEATABLE READ: whatever commits meanwhile is in neither, so an execution may be replayed while it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, text

from orchestrator.ledger import database
from orchestrator.model.fold import Event, Rows, StepRow
from orchestrator.model.state import ExecutionStatus, StepStatus

#: Of what was purged no history is left.
_EXECUTIONS = text("""
SELECT id, status, state, output FROM orchestrator.execution
WHERE id = ANY(CAST(:ids AS uuid[])) AND purged_at IS NULL
""")
_STEPS = text("""
SELECT execution_id, path, status, attempt, owner, output, error FROM orchestrator.step
WHERE execution_id = ANY(CAST(:ids AS uuid[]))
""")
_EVENTS = text("""
SELECT execution_id, id, type, path, attempt, data FROM orchestrator.event
WHERE execution_id = ANY(CAST(:ids AS uuid[])) ORDER BY execution_id, id
""")
#: By the primary key: nothing is read twice, and what starts meanwhile comes last.
_PAGE = text("""
SELECT id FROM orchestrator.execution
WHERE id > coalesce(CAST(:after AS uuid), '00000000-0000-0000-0000-000000000000')
  AND (tenant = :tenant OR CAST(:tenant AS text) IS NULL) AND purged_at IS NULL
ORDER BY id LIMIT :limit
""")
_COUNT = text("""
SELECT count(*) FROM orchestrator.execution
WHERE (tenant = :tenant OR CAST(:tenant AS text) IS NULL) AND purged_at IS NULL
""")


@dataclass(kw_only=True, slots=True)
class Recorded:
    """An execution's rows, and its history by id."""

    rows: Rows
    events: list[Event] = field(default_factory=list)


def recorded(engine: Engine, ids: Sequence[str]) -> dict[str, Recorded]:
    """Rows and histories of executions by id; one that is not there is left out."""
    with database.transaction(engine, "REPEATABLE READ") as connection:
        return _recorded(connection, {"ids": list(ids)})


def _recorded(connection: Connection, which: dict[str, list[str]]) -> dict[str, Recorded]:
    found: dict[str, Recorded] = {}
    for id_, status, state, output in connection.execute(_EXECUTIONS, which):
        kept = output if status == ExecutionStatus.SUCCEEDED else None
        found[str(id_)] = Recorded(rows=Rows(status=status, state=state, output=kept))
    for id_, path, status, attempt, owner, output, error in connection.execute(_STEPS, which):
        found[str(id_)].rows.steps[path] = StepRow(
            status=status,
            attempt=attempt,
            owner=owner,
            # Of other steps they are what an earlier attempt, or an earlier time round, has left.
            output=output if status == StepStatus.SUCCEEDED else None,
            error=error if status in {StepStatus.FAILED, StepStatus.TIMED_OUT} else None,
        )
    for id_, number, kind, path, attempt, data in connection.execute(_EVENTS, which):
        if str(id_) in found:
            found[str(id_)].events.append(Event(id=number, type=kind, path=path, attempt=attempt, data=data))
    return found


def pages(engine: Engine, tenant: str | None, size: int) -> Iterator[list[str]]:
    """Ids of all executions, of one tenant or of all, the oldest first, so many at a time."""
    after: str | None = None
    while True:
        with engine.connect() as connection:
            rows = connection.execute(_PAGE, {"after": after, "tenant": tenant, "limit": size})
            page = [str(row[0]) for row in rows]
        if not page:
            return
        yield page
        after = page[-1]


def count(engine: Engine, tenant: str | None) -> int:
    """How many executions there are."""
    with engine.connect() as connection:
        return int(connection.execute(_COUNT, {"tenant": tenant}).scalar_one())
