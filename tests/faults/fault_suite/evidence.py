"""What a load left behind: in the ledger as any reader of its tables sees it, in what activities wrote, and in what
clients were told. Nothing here calls the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, text

from fault_suite.outside import Answer, Call, Outside
from fault_suite.workload import UNDOABLE
from orchestrator.ledger import verify
from orchestrator.model.identity import undone_path
from orchestrator.model.state import SETTLED_STEPS

#: Events that settle a step.
SETTLING = {f"step_{status}" for status in SETTLED_STEPS}
#: An owner has its step no more, though that is not settled.
LET_GO = ("step_released", "step_retrying", "step_waiting", "step_ready")


@dataclass(frozen=True, slots=True)
class Event:
    """One of the history."""

    id: int
    type: str
    path: str | None
    attempt: int | None
    #: The database's clock, in seconds since 1970.
    at: float


@dataclass(frozen=True, slots=True)
class Step:
    """A row."""

    status: str
    undoes: str | None
    transactional: bool


@dataclass(frozen=True, slots=True)
class Effect:
    """A row that a transactional activity wrote."""

    number: int
    path: str
    attempt: int
    undo: bool


@dataclass(kw_only=True, slots=True)
class Found:
    """One execution, from all sides."""

    id: str
    definition: str
    status: str
    key: str | None
    error: str | None
    steps: dict[str, Step] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def named(self, kind: str, path: str | None = None) -> list[Event]:
        """Events of a type, of a step or of all."""
        return [event for event in self.events if event.type == kind and path in {None, event.path}]

    def to_undo(self) -> list[str]:
        """Paths of the steps that have succeeded and have a compensation."""
        can_be = UNDOABLE.get(self.definition, frozenset())
        return [path for path, step in self.steps.items() if path in can_be and step.status == "succeeded"]

    def taken(self) -> dict[tuple[str | None, int | None], int]:
        """Attempts that were taken from their owners, who may know nothing of it: path and number -> id of the event
        that did it."""
        taken: dict[tuple[str | None, int | None], int] = {}
        held = set[tuple[str | None, int | None]]()
        for event in self.events:
            attempt = (event.path, event.attempt)
            if event.type == "step_started":
                held.add(attempt)
            elif event.type in SETTLING or event.type in LET_GO:
                if attempt in held and event.type in {"step_released", "step_cancelled"}:
                    taken[attempt] = event.id
                held.discard(attempt)
        return taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that a load left behind."""

    executions: dict[str, Found]
    answers: list[Answer]
    #: The product's own check of the whole ledger: violations by claim.
    claims: dict[str, list[str]]
    #: What differs between histories and rows.
    differences: list[str]
    #: Whether every release that was at work has the promise: a migration brought it.
    losers_are_waited_for: bool = True


def collect(connection: Connection, outside: Outside, mark: str, differences: list[str]) -> Evidence:
    """Read everything of a load's."""
    executions: dict[str, Found] = {}
    for row in connection.execute(_EXECUTIONS, {"mark": mark}):
        found = Found(id=str(row[0]), definition=row[1], status=row[2], key=row[3], error=row[4])
        executions[found.id] = found
    for id_, path, status, undoes, transactional in connection.execute(_STEPS, {"mark": mark}):
        executions[str(id_)].steps[path] = Step(status, undoes, transactional)
    for id_, number, kind, path, attempt, at in connection.execute(_EVENTS, {"mark": mark}):
        executions[str(id_)].events.append(Event(number, kind, path, attempt, at))
    for id_, number, path, attempt, undo in connection.execute(_EFFECTS, {"mark": mark}):
        executions[str(id_)].effects.append(Effect(number, undone_path(path) or path, attempt, undo))
    for call in outside.calls(mark):
        if call.execution in executions:
            executions[call.execution].calls.append(call)
    claims = {check.name: check.sample for check in verify.verify(connection) if not check.ok}
    releases = {call.engine for found in executions.values() for call in found.calls}
    return Evidence(
        executions=executions,
        answers=outside.answers(mark),
        claims=claims,
        differences=differences,
        losers_are_waited_for=all(map(waits_for_losers, releases)),
    )


def waits_for_losers(release: str) -> bool:
    """Whether a release, in this folder, begins no compensation beside the loser of a race."""
    return (Path(release) / "orchestrator" / "ledger" / "stragglers.py").exists()


_OF = "JOIN orchestrator.execution x ON x.id = t.execution_id WHERE x.correlation_id = :mark"
_EXECUTIONS = text("""
SELECT id, definition_name, status, idempotency_key, error ->> 'name' FROM orchestrator.execution
WHERE correlation_id = :mark
""")
_STEPS = text(f"SELECT t.execution_id, t.path, t.status, t.undoes, t.transactional FROM orchestrator.step t {_OF}")
_EVENTS = text(
    "SELECT t.execution_id, t.id, t.type, t.path, t.attempt, extract(epoch FROM t.at)::float8 "
    f"FROM orchestrator.event t {_OF} ORDER BY t.id"
)
_EFFECTS = text(
    "SELECT t.execution, t.number, t.path, t.attempt, t.undo FROM effect t "
    "JOIN orchestrator.execution x ON x.id = t.execution WHERE x.correlation_id = :mark ORDER BY t.number"
)
