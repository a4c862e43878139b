"""What a retry makes of the rows of an execution that has ended without success. Pure.

What succeeded, was skipped, or failed and was borne by somebody stays as it is. What failed the execution is ready once
more; what was cancelled with it goes back to where it stood. A body is taken up only with the step that it belongs to:
if that one has borne the failure, its body is left behind. Losers of a race have lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.compiler.failure import bearing
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import CHILD
from orchestrator.model.identity import undo_path
from orchestrator.model.reopened import Reopened, Row
from orchestrator.model.state import StepStatus

S = StepStatus
_ENDED_BADLY = frozenset({S.FAILED, S.TIMED_OUT})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reopening:
    """What a retry does."""

    rows: list[Reopened] = field(default_factory=list)
    #: Steps that are done and stay so, with their exits: what is behind them may be missing.
    done: list[tuple[str, str | None]] = field(default_factory=list)


def reopen(
    graph: Graph, rows: Iterable[Row], *, given: Mapping[str, str] | None = None, child: Callable[[str], Reopened]
) -> Reopening:
    """What becomes of each row.

    Args:
        given: outputs (JSON text) by path of steps that count as succeeded by an operator's word.
        child: what becomes of the step at a path that is an execution of its own, and of that.
    """
    forward = {row.path: row for row in rows if row.undoes is None}
    open_again = _open_again(graph, forward)
    found, given = Reopening(), given or {}
    for path, row in forward.items():
        container = graph.place(path).container
        if container is not None and container not in open_again:
            continue
        if path in given:
            found.rows.append(Reopened(path=path, status=S.SUCCEEDED, output=given[path], fresh=True))
            found.done.append((path, None))
        elif path in open_again:
            found.rows.append(_row(graph, row, open_again, forward, child))
        elif row.status == S.SUCCEEDED or (row.status in _ENDED_BADLY and row.exit is not None):
            found.done.append((path, row.exit))
    return found


def _open_again(graph: Graph, forward: Mapping[str, Row]) -> set[str]:
    """Paths that are not done: shorter ones, their containers, are decided first."""
    found: set[str] = set()
    for path in sorted(forward, key=lambda path: (path.count("[") + path.count("/"), path)):
        container = graph.place(path).container
        if container is not None and container not in found:
            continue
        row = forward[path]
        if row.status == S.CANCELLED and row.was is not None:
            found.add(path)
        elif row.status == S.CANCELLED and container is None and row.attempt > 0 and not _has_lost(graph, path):
            # Released from an owner that died while the execution drained.
            found.add(path)
        elif row.status in _ENDED_BADLY and not _is_borne(graph, row):
            found.add(path)
    return found


def _has_lost(graph: Graph, path: str) -> bool:
    """Whether it may have been cancelled as the loser of a race."""
    place = graph.place(path)
    return any(place.id in place.body.losers(join) for join in place.body.steps)


def _is_borne(graph: Graph, row: Row) -> bool:
    borne = bearing(graph, row.path, row.category or "system", row.name or "")
    return borne.exit is not None and row.exit == borne.exit


def _row(
    graph: Graph,
    row: Row,
    open_again: set[str],
    forward: Mapping[str, Row],
    child: Callable[[str], Reopened],
) -> Reopened:
    step = graph.step(row.path)
    if step.kind == CHILD and (row.awaits == "child" or row.status in _ENDED_BADLY):
        return child(row.path)
    if graph.has_body(row.path) and row.remembers:
        inside = any(path in open_again and graph.place(path).container == row.path for path in forward)
        if inside:
            return Reopened(path=row.path, status=S.WAITING, awaits="body", due_at=row.was_due_at)
        if row.awaits == "body" or row.status in _ENDED_BADLY:
            return Reopened(path=row.path, status=S.READY, woken_by="body")
    return _back(row)


def _back(row: Row) -> Reopened:
    """Where it stood when it was cancelled; what failed begins anew."""
    if row.was == S.BLOCKED:
        return Reopened(path=row.path, status=S.BLOCKED)
    if row.was == S.WAITING and (row.awaits is not None or row.was_due_at is not None):
        return Reopened(path=row.path, status=S.WAITING, awaits=row.awaits, due_at=row.was_due_at)
    if row.was == S.READY:
        return Reopened(path=row.path, status=S.READY, woken_by=row.woken_by)
    return Reopened(path=row.path, status=S.READY, fresh=True)


def undo_again(rows: Iterable[Row], order: Iterable[str]) -> list[Reopened]:
    """Compensations that have not succeeded, one behind the other.

    Args:
        order: the steps to undo, in order.
    """
    failed = {row.undoes for row in rows if row.undoes is not None and row.status != S.SUCCEEDED}
    left = [path for path in order if path in failed]
    return [
        Reopened(
            path=undo_path(path),
            status=S.READY if number == 0 else S.BLOCKED,
            parents=None if number == 0 else (undo_path(left[number - 1]),),
        )
        for number, path in enumerate(left)
    ]
