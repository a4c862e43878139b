"""The attempts at an execution's steps, folded from its history. Nothing here is on a step's path.

An attempt begins with a claim and ends with the first event that says how: what a drain writes about a step that only
waits for its next attempt is no end of the last one. An owner that was taken for dead and came back is told of behind
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

#: So many events are read at a time.
PAGE = 1_000

#: Outputs, which may be large, stay where they are.
EVENTS = text("""
SELECT e.id, e.type, e.path, e.attempt, e.data - 'output' AS data, e.at, w.name AS node
FROM orchestrator.event e
LEFT JOIN orchestrator.worker w ON e.type = 'step_started' AND w.boot_id = split_part(e.data ->> 'owner', '.', 1)
WHERE e.execution_id = :execution AND e.id > :after AND e.attempt > 0
  AND e.type IN ('step_started', 'step_succeeded', 'step_retrying', 'step_failed', 'step_timed_out', 'step_waiting',
                 'step_released', 'step_cancelled', 'attempt_fenced')
  AND (e.path = :path OR CAST(:path AS text) IS NULL)
ORDER BY e.id LIMIT :limit
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRecord:
    """One attempt at a step or a compensation."""

    path: str
    #: Counts from 1, the attempts that died with their owners included.
    attempt: int
    #: Who made it: the node's boot id, a dot, and the process.
    owner: str | None = None
    #: The node's name, as long as it is known.
    node: str | None = None
    started_at: datetime
    #: None while it runs.
    ended_at: datetime | None = None
    #: succeeded, retrying (failed, and another follows), failed, timed_out, cancelled, waiting (let go of until it is
    #: woken), released (its owner died), fenced (so it was thought, and its late result was dropped); None while it
    #: runs.
    ended: str | None = None
    #: category, name, message and traceback.
    error: dict[str, Any] | None = None
    #: Not before this time the next one is made.
    next_at: datetime | None = None


def attempts(connection: Connection, execution_id: str, path: str | None = None) -> list[AttemptRecord]:
    """The attempts at all steps of an execution, or at one, in the order in which they began."""
    found: dict[tuple[str, int], AttemptRecord] = {}
    after = 0
    while True:
        parameters = {"execution": execution_id, "path": path, "after": after, "limit": PAGE}
        page = [row._mapping for row in connection.execute(EVENTS, parameters)]
        fold(found, page)
        if len(page) < PAGE:
            return list(found.values())
        after = page[-1]["id"]


def fold(found: dict[tuple[str, int], AttemptRecord], events: Iterable[Mapping[Any, Any]]) -> None:
    """Add events, oldest first, to the attempts that they tell of."""
    for event in events:
        key, data = (event["path"], event["attempt"]), event["data"] or {}
        known = found.get(key)
        if event["type"] == "step_started":
            # One statement may settle a step and claim the next: the events of one attempt still come in this order.
            found[key] = AttemptRecord(
                path=key[0], attempt=key[1], owner=data.get("owner"), node=event["node"], started_at=event["at"]
            )
        elif known is not None and event["type"] == "attempt_fenced":
            if known.ended in {None, "released"}:
                found[key] = replace(known, ended="fenced", ended_at=known.ended_at or event["at"])
        elif known is not None and known.ended is None:
            due_at = data.get("due_at") if event["type"] == "step_retrying" else None
            found[key] = replace(
                known,
                ended=event["type"].removeprefix("step_"),
                ended_at=event["at"],
                error=data.get("error"),
                next_at=None if due_at is None else datetime.fromisoformat(due_at),
            )
