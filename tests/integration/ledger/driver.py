"""One database's ledger as the tests drive it: the ledger's own statements on real connections."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, text

from ledger.races import Background
from orchestrator.compiler.graph import Graph
from orchestrator.engine import start as starting
from orchestrator.engine.start import Options, Target
from orchestrator.ledger import claims, definitions, parks, verify, views
from orchestrator.ledger.claims import Claim
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.loop import Lanes
from orchestrator.model.state import FINAL_EXECUTIONS, OPEN_STEPS

P = ParamSpec("P")
R = TypeVar("R")

#: Owners as workers name them: boot id, dot, process id.
OWNER, OTHER = "boot-a.101", "boot-b.202"
QUEUE = "orchestrator"
TENANT = "default"

_names = count(1)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An execution that a test has started."""

    id: str
    graph: Graph

    def successors(self, path: str, exit_by: str | None = None) -> str:
        """The rows that a step's end inserts."""
        return self.graph.follow(path, exit_by, _no_loops).rows


def _no_loops(path: str) -> Lanes:
    raise LookupError(f"there is no loop {path}")


class Ledger:
    """A migrated database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def do(self, function: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call one of the ledger's functions on an autocommit connection."""
        with self.engine.connect() as connection:
            return function(connection, *args, **kwargs)

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """A connection whose transaction stays open until the test commits it; rolled back otherwise."""
        with self.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            connection.begin()
            yield connection

    @contextmanager
    def locked(self, begun: Begun) -> Iterator[Connection]:
        """A transaction that holds all of an execution's steps until it ends."""
        with self.open() as connection:
            connection.execute(
                text("SELECT FROM orchestrator.step WHERE execution_id = :e FOR UPDATE"), {"e": begun.id}
            )
            yield connection

    def behind(self, work: Callable[[Connection], R]) -> Background[R]:
        """Work in the background, on an autocommit connection of its own."""
        return Background(self.engine, work)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a test's own statement."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    def target(self, after: Mapping[str, Sequence[str]], compensated: Collection[str] = ()) -> Target:
        """A published definition of steps, each with those that it comes after."""
        undo = Compensation(activity="undo")
        steps = (
            Step(id=path, activity="do", after=tuple(parents), compensation=undo if path in compensated else None)
            for path, parents in after.items()
        )
        return self.target_of(*steps)

    def target_of(self, *steps: Step) -> Target:
        """A published definition of these steps."""
        definition = Definition(name=f"test-{next(_names)}", steps=steps)
        published = self.do(definitions.publish, TENANT, definition)
        return Target(tenant=TENANT, definition_id=published.id, graph=Graph(definition, QUEUE))

    def start(
        self,
        after: Mapping[str, Sequence[str]],
        *,
        compensated: Collection[str] = (),
        timeout: float | None = None,
        start_at: datetime | None = None,
    ) -> Begun:
        """Start an execution of a definition of its own."""
        return self.begin(self.target(after, compensated), Options(timeout=timeout, start_at=start_at))

    def begin(self, target: Target, options: Options | None = None) -> Begun:
        """Start an execution of a definition."""
        new = starting.prepare(target, {}, options or Options(), 1_000)
        started = self.do(starting.insert, target, [new])
        return Begun(id=started[0].execution_id, graph=target.graph)

    def claim(self, begun: Begun, path: str, owner: str = OWNER) -> Claim:
        """Claim a step that must be claimable."""
        held = self.try_claim(begun, path, owner)
        assert held is not None, f"{path} is {self.step(begun, path)}"
        return held

    def try_claim(self, begun: Begun, path: str, owner: str = OWNER) -> Claim | None:
        """Claim a step if it can be claimed."""
        taken = self.do(claims.claim, begun.id, path, owner=owner, transactional=False, timeout=None)
        return taken[0] if taken else None

    def succeed(self, begun: Begun, path: str, owner: str = OWNER) -> None:
        """Claim a step, settle it and insert its successors."""
        held = self.claim(begun, path, owner)
        assert self.do(claims.settle_and_spread, held, "1", successors=begun.successors(path))

    def wait_for_body(self, begun: Begun, path: str, *iterations: int) -> None:
        """Claim a step, and let go of it until its body has ended, of which it begins these iterations."""
        rows = begun.graph.body_rows(tuple(f"{path}[{index}]." for index in iterations), begun.graph.body(path))
        parked = self.do(parks.park, self.claim(begun, path), resume={}, awaits="body", body=rows)
        assert parked is not None
        assert not parked.halted

    def age(self, begun: Begun, column: str, seconds: float = 60) -> None:
        """Let a time of an execution's steps lie further back."""
        self.sql(
            f"UPDATE orchestrator.step SET {column} = {column} - CAST(:s AS float8) * interval '1 s' "
            "WHERE execution_id = :e",
            s=seconds,
            e=begun.id,
        )

    def step(self, begun: Begun, path: str) -> Any:
        """A step's row; None when there is none."""
        rows = self.sql("SELECT * FROM orchestrator.step WHERE execution_id = :e AND path = :p", e=begun.id, p=path)
        return rows[0] if rows else None

    def statuses(self, begun: Begun) -> dict[str, str]:
        """path -> status of all steps."""
        return {row["path"]: row["status"] for row in self.do(views.steps, begun.id)}

    def status(self, begun: Begun) -> str:
        """The execution's status."""
        found = self.do(views.status, begun.id)
        assert found is not None
        return found[0]

    def flag(self, begun: Begun, status: str) -> None:
        """Flag a running execution, as cancel and its like do."""
        flagged = self.sql(
            "UPDATE orchestrator.execution SET status = :s WHERE id = :e AND status = 'running' RETURNING id",
            s=status,
            e=begun.id,
        )
        assert flagged

    def events(self, begun: Begun, *types: str) -> list[tuple[str, str | None, int | None]]:
        """The history as (type, path, attempt), of all types or those given."""
        rows = self.do(views.events, begun.id)
        return [(row["type"], row["path"], row["attempt"]) for row in rows if not types or row["type"] in types]

    def violated(self, begun: Begun) -> list[str]:
        """The claims on the ledger that an execution violates."""
        return [check.name for check in self.do(verify.verify) if any(begun.id in sample for sample in check.sample)]

    def assert_unfinished_iff_open(self, begun: Begun) -> None:
        """The invariant that recovery rests on."""
        is_open = any(status in OPEN_STEPS for status in self.statuses(begun).values())
        assert is_open == (self.status(begun) not in FINAL_EXECUTIONS), (self.status(begun), self.statuses(begun))
