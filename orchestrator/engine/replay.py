"""Replaying: folding executions' histories, and telling what their rows say otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine

from orchestrator.engine.inbox import PATIENCE, Inbox
from orchestrator.errors import ExecutionNotFound
from orchestrator.ledger import database, histories
from orchestrator.model.fold import Difference, differences, fold

#: Executions that are read at once.
PAGE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What became of an execution's history when it was folded."""

    execution_id: str
    #: How many events it has, and how many rows they are about, the execution's own included.
    events: int
    rows: int
    differences: tuple[Difference, ...]

    def as_data(self) -> dict[str, Any]:
        """JSON data."""
        return asdict(self)


class Replays(Inbox):
    """Replays executions."""

    def replay(self, execution_id: str) -> Replayed:
        """Fold an execution's history and compare it with its rows, at one moment; it may go on meanwhile.

        Raises:
            ExecutionNotFound: there is no such execution.
            DatabaseUnavailable, SchemaNotMigrated: the ledger cannot be reached or used.
        """
        engine = self.core.database
        found = database.persist(lambda: list(replayed(engine, [execution_id])), give_up_after=PATIENCE, at=engine)
        if not found:
            raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        return found[0]


def replayed(engine: Engine, ids: Sequence[str]) -> Iterator[Replayed]:
    """Each of these executions that is there, replayed; all at one moment."""
    for execution_id, found in histories.recorded(engine, ids).items():
        folded, unlawful = fold(found.events)
        yield Replayed(
            execution_id=execution_id,
            events=len(found.events),
            rows=len(found.rows.steps) + 1,
            differences=(*unlawful, *differences(folded, found.rows)),
        )


def replayed_all(engine: Engine, tenant: str | None = None) -> Iterator[Replayed]:
    """Every execution of one tenant, or of all, page by page, the oldest first."""
    for page in histories.pages(engine, tenant, PAGE):
        yield from replayed(engine, page)
