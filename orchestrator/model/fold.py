"""Folding a history: what an execution's events alone say of its rows. Pure.

The ledger's statements change a row and append the event about it in one, so folding all events must give the rows.
What is folded: the status, the machine's state and the output of the execution; the status, the attempt, the owner, the
output and the error of each step. Events that say nothing of these (an attempt that was fenced, a signal that was
received) leave everything as it is, and so does a type that a newer release has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.model.state import EXECUTION_TRANSITIONS, STEP_TRANSITIONS, ExecutionStatus, StepStatus

#: step event -> the status that it gives; each status has an event of its own name beside these.
_STEP_EVENTS: Final = {f"step_{status}": status for status in StepStatus} | {
    "step_started": StepStatus.RUNNING,
    "step_released": StepStatus.READY,
}
_EXECUTION_EVENTS: Final = {f"execution_{status}": status for status in ExecutionStatus}
#: Of steps and executions: what the rows keep beside the status, and only in some.
_STEP_OUTPUT, _EXECUTION_OUTPUT = StepStatus.SUCCEEDED, ExecutionStatus.SUCCEEDED
_STEP_ERROR: Final = frozenset({StepStatus.FAILED, StepStatus.TIMED_OUT})


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event of a history."""

    id: int
    type: str
    path: str | None = None
    attempt: int | None = None
    data: Mapping[str, Any] | None = None


@dataclass(kw_only=True, slots=True)
class StepRow:
    """A step, as its row has it or as its events say."""

    status: str
    attempt: int = 0
    owner: str | None = None
    output: Any = None
    error: Any = None


@dataclass(kw_only=True, slots=True)
class Rows:
    """An execution and its steps."""

    status: str | None = None
    #: Of a machine.
    state: str | None = None
    output: Any = None
    steps: dict[str, StepRow] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What a history says otherwise than the rows, or what it cannot say."""

    #: The step; None for the execution itself.
    path: str | None
    #: status, attempt, owner, output, error, state; `step` for a row that only one of the two has; `event` for one that
    #: may not follow what is before it.
    field: str
    #: What the events say, and what the row says.
    events: Any
    row: Any

    def __str__(self) -> str:
        of = self.path or "the execution"
        if self.field == "event":
            return f"{of}: {self.events} may not follow {self.row}"
        return f"{of}: {self.field} is {self.row!r}, and by its events {self.events!r}"


def fold(events: Iterable[Event]) -> tuple[Rows, list[Difference]]:
    """What events say of the rows, by their ids in order, and each of them that may not follow those before it."""
    rows, unlawful = Rows(), list[Difference]()
    for event in events:
        if (status := _EXECUTION_EVENTS.get(event.type)) is not None and event.path is None:
            before = rows.status
            if before is not None and before != status and status not in EXECUTION_TRANSITIONS[ExecutionStatus(before)]:
                unlawful.append(Difference(path=None, field="event", events=event.type, row=before))
            rows.status = status.value
            rows.output = (event.data or {}).get("output") if status == _EXECUTION_OUTPUT else None
        elif event.type == "state_entered":
            rows.state = (event.data or {}).get("state")
        elif (after := _STEP_EVENTS.get(event.type)) is not None and event.path is not None:
            known = rows.steps.get(event.path)
            if known is not None and known.status != after and after not in STEP_TRANSITIONS[StepStatus(known.status)]:
                unlawful.append(Difference(path=event.path, field="event", events=event.type, row=known.status))
            rows.steps[event.path] = _step(known, event, after)
    return rows, unlawful


def _step(known: StepRow | None, event: Event, status: StepStatus) -> StepRow:
    data = event.data or {}
    attempt = known.attempt if known is not None else 0
    running = status == StepStatus.RUNNING
    return StepRow(
        status=status.value,
        attempt=event.attempt or attempt if running else attempt,
        owner=data.get("owner") if running else None,
        output=data.get("output") if status == _STEP_OUTPUT else None,
        error=data.get("error") if status in _STEP_ERROR else None,
    )


def differences(folded: Rows, rows: Rows) -> list[Difference]:
    """What the events say otherwise than the rows: the execution first, then its steps by path."""
    found = [
        Difference(path=None, field=name, events=getattr(folded, name), row=getattr(rows, name))
        for name in ("status", "state", "output")
        if getattr(folded, name) != getattr(rows, name)
    ]
    for path in sorted(folded.steps.keys() | rows.steps.keys()):
        by_events, row = folded.steps.get(path), rows.steps.get(path)
        if by_events is None or row is None:
            said, stands = (None if one is None else one.status for one in (by_events, row))
            found.append(Difference(path=path, field="step", events=said, row=stands))
            continue
        found += [
            Difference(path=path, field=name, events=getattr(by_events, name), row=getattr(row, name))
            for name in StepRow.__slots__
            if getattr(by_events, name) != getattr(row, name)
        ]
    return found
