"""What workers hold and what was done, for those who watch: demonstrations, benchmarks, fault tests. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

NODE = text("""
SELECT boot_id, name FROM orchestrator.worker
WHERE pid = :pid AND buried_at IS NULL AND stopped_at IS NULL ORDER BY started_at DESC LIMIT 1
""")

#: Every owner's name begins with its node's boot id.
HELD = text("""
SELECT execution_id, path, attempt FROM orchestrator.step
WHERE status = 'running' AND split_part(owner, '.', 1) = :boot ORDER BY execution_id, path
""")

RELEASED = text("""
SELECT execution_id, path, attempt FROM orchestrator.event
WHERE type IN ('step_released', 'step_cancelled') AND split_part(data ->> 'owner', '.', 1) = :boot ORDER BY id
""")

DONE = text("""
SELECT (SELECT count(*) FROM orchestrator.execution) AS executions,
       count(*) FILTER (WHERE type = 'step_started') AS attempts,
       count(*) FILTER (WHERE type = 'step_succeeded') AS steps,
       coalesce(extract(epoch FROM max(at) - min(at))::float8, 0) AS seconds
FROM orchestrator.event
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A worker node that stands."""

    boot_id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Held:
    """An attempt and the execution that it belongs to."""

    execution_id: str
    path: str
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """How much was done since the ledger's first event."""

    executions: int
    #: Attempts that were begun, compensations included.
    attempts: int
    #: Steps and compensations that succeeded.
    steps: int
    #: From the first event to the last.
    seconds: float


def node(connection: Connection, pid: int) -> Node | None:
    """The standing node whose main process has this id; None when it is not registered, or on another host."""
    row = connection.execute(NODE, {"pid": pid}).first()
    return None if row is None else Node(boot_id=row[0], name=row[1])


def held(connection: Connection, boot_id: str) -> set[Held]:
    """The attempts that run under a node's name."""
    return {_held(row) for row in connection.execute(HELD, {"boot": boot_id})}


def released(connection: Connection, boot_id: str) -> list[Held]:
    """The attempts that were taken from a node, in order. Reads the whole history."""
    return [_held(row) for row in connection.execute(RELEASED, {"boot": boot_id})]


def done(connection: Connection) -> Done:
    """What all workers have done, all tenants together. Reads the whole history."""
    return Done(**connection.execute(DONE).mappings().one())


def _held(row: Row[Any, Any, Any]) -> Held:
    return Held(execution_id=str(row[0]), path=row[1], attempt=row[2])
