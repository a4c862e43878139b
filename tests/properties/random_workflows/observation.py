"""What an execution has left behind: its rows, its history, and what the witness saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nodes.site import Site
from nodes.witness import Call

STEPS = """
SELECT CAST(execution_id AS text), path, status, exit, output, error, attempt, undoes
FROM orchestrator.step WHERE execution_id = ANY(CAST(:ids AS uuid[]))
"""
EVENTS = """
SELECT CAST(execution_id AS text), id, type, path, attempt FROM orchestrator.event
WHERE execution_id = ANY(CAST(:ids AS uuid[])) ORDER BY id
"""
EXECUTIONS = """
SELECT CAST(id AS text), status, output, error FROM orchestrator.execution WHERE id = ANY(CAST(:ids AS uuid[]))
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A step's row."""

    path: str
    status: str
    exit: str | None
    output: Any
    error: dict[str, Any] | None
    attempt: int
    undoes: str | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of the history."""

    id: int
    type: str
    path: str | None
    attempt: int | None


@dataclass(kw_only=True)
class Observation:
    """One execution after its end."""

    id: str
    status: str = ""
    output: Any = None
    error: dict[str, Any] | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    undone: dict[str, Row] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def observe(site: Site, ids: Sequence[str]) -> dict[str, Observation]:
    """What the executions have left behind, by id."""
    found: dict[str, Observation] = defaultdict()
    for execution, status, output, error in site.execute(EXECUTIONS, ids=list(ids)):
        found[execution] = Observation(id=execution, status=status, output=output, error=error)
    for execution, path, status, exit_by, output, error, attempt, undoes in site.execute(STEPS, ids=list(ids)):
        row = Row(path=path, status=status, exit=exit_by, output=output, error=error, attempt=attempt, undoes=undoes)
        (found[execution].rows if undoes is None else found[execution].undone)[path] = row
    for execution, number, kind, path, attempt in site.execute(EVENTS, ids=list(ids)):
        found[execution].events.append(Event(id=number, type=kind, path=path, attempt=attempt))
    for execution, seen in found.items():
        begun, ended = (site.witness.calls(execution, phase=phase) for phase in ("begun", "ended"))
        seen.calls = [*begun, *ended]
    return found
