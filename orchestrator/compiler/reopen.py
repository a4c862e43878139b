"""What a retry makes of the rows of an execution that has ended without success. Pure.

What succeeded, was skipped, or failed and was borne by somebody stays as it is. What failed the execution is ready once
more; what was cancelled with it goes back to where it stood. A body is taken up only with the step that it belongs to:
if that one has borne the failure, or is given an output, its body is left behind; so are the earlier transitions of a
machine, and a body that was undone before its step could fail: that has still to fail. Losers of a race have lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.compiler.failure import bearing
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import CHILD, inner
from orchestrator.model.exits import JOIN_UNMET, UNMET
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
        given: outputs (JSON text) by path of steps that count as succeeded by an operator's word. One that is done, or
            left behind, is not changed.
        child: what becomes of the step at a path that is an execution of its own, and of that.

    Raises:
        ValueError: a step is given an output that it cannot go on by (`exit_given`).
    """
    rows = list(rows)
    forward = {row.path: row for row in rows if row.undoes is None}
    given = given or {}
    undone = {row.undoes for row in rows if row.undoes is not None}
    taken = _Taken(graph=graph, forward=forward, given=given, undone=undone)
    found = Reopening()
    for path, row in forward.items():
        if taken.leaves(path):
            continue
        if path in taken.open_again and path in given:
            exit_by = exit_given(graph, path, given[path])
            found.rows.append(Reopened(path=path, status=S.SUCCEEDED, exit=exit_by, output=given[path], fresh=True))
            found.done.append((path, exit_by))
        elif path in taken.open_again:
            found.rows.append(_row(taken, row, child))
        elif row.status == S.SUCCEEDED or (row.status in _ENDED_BADLY and row.exit is not None):
            found.done.append((path, row.exit))
    return found


def exit_given(graph: Graph, path: str, output: str) -> str | None:
    """By which exit a step goes on that is given an output (JSON text): a choice by the case that the output names.

    Raises:
        ValueError: it names none.
    """
    exits = graph.exits(path)
    if not exits:
        return None
    chosen = json.loads(output)
    if chosen not in exits:
        raise ValueError(
            f"step {path} chooses how it goes on, so its output must be the name of a case: {', '.join(exits)}"
        )
    return str(chosen)


class _Taken:
    """Which rows are taken up, and which are left behind."""

    def __init__(
        self, *, graph: Graph, forward: Mapping[str, Row], given: Mapping[str, str], undone: Collection[str]
    ) -> None:
        self.graph, self.forward, self.given = graph, forward, given
        #: Steps whose bodies have gone back, or had begun to: they still have to fail.
        self.gone_back = {path for path, row in forward.items() if self._has_gone_back(row, undone)}
        #: Paths that are not done: shorter ones, their containers, are decided first.
        self.open_again: set[str] = set()
        for path in sorted(forward, key=lambda path: (path.count("[") + path.count("/"), path)):
            if not self.leaves(path) and self._is_open(forward[path]):
                self.open_again.add(path)
        #: Steps whose bodies are taken up.
        self.containers = {graph.place(path).container for path in self.open_again}

    def leaves(self, path: str) -> bool:
        """Whether a path is left behind with the body that it is in, or with an earlier transition of a machine."""
        place = self.graph.place(path)
        if place.container is None:
            return False
        if place.container not in self.open_again or place.container in self.given.keys() | self.gone_back:
            return True
        return place.prefix.endswith("/") and place.prefix != self.forward[place.container].inner

    def _has_gone_back(self, row: Row, undone: Collection[str]) -> bool:
        if not self.graph.has_body(row.path):
            return False
        if row.status == S.CANCELLED and (row.awaits == "undo" or row.woken_by != "broken"):
            return row.awaits == "undo"
        if row.status != S.CANCELLED and (row.status not in _ENDED_BADLY or row.exit is not None):
            return False
        # It was in the hands of a worker when the execution was halted, perhaps after its undo; or it has failed as
        # nobody bore it that something of it could not be undone.
        borne = bearing(self.graph, row.path, row.category or "system", row.name or "")
        return borne.exit is not None and any(path.startswith(inner(row.path)) for path in undone)

    def _is_open(self, row: Row) -> bool:
        if row.status == S.CANCELLED:
            # One that was attempted and stood nowhere was in the hands of a worker: of one that died while the
            # execution drained, or that was about to let go of it.
            return (row.was is not None or row.attempt > 0) and not self._has_lost(row.path)
        return row.status in _ENDED_BADLY and not _is_borne(self.graph, row)

    def _has_lost(self, path: str) -> bool:
        """Whether a join that it only leads to was decided without it."""
        place = self.graph.place(path)
        joins = (self.forward.get(place.prefix + join) for join in place.body.joins_lost_by(place.id))
        return any(join is not None and S.BLOCKED not in {join.was, join.status} for join in joins)


def _is_borne(graph: Graph, row: Row) -> bool:
    borne = bearing(graph, row.path, row.category or "system", row.name or "")
    return borne.exit is not None and row.exit == borne.exit


def _row(taken: _Taken, row: Row, child: Callable[[str], Reopened]) -> Reopened:
    graph, path = taken.graph, row.path
    if path in taken.gone_back:
        return Reopened(path=path, status=S.READY, woken_by="broken")
    in_hand = row.status == S.CANCELLED and row.was is None
    if graph.step(path).kind == CHILD:
        if row.awaits == "child" or row.status in _ENDED_BADLY or row.woken_by == "broken" or in_hand:
            return child(path)
    elif graph.has_body(path) and row.remembers:
        # Whether anything of the body is open is asked once it stands: steps may be missing behind what is done.
        if (row.was == S.WAITING and row.awaits == "body") or path in taken.containers:
            return Reopened(path=path, status=S.WAITING, awaits="body", due_at=row.was_due_at)
        if row.status in _ENDED_BADLY:
            return Reopened(path=path, status=S.READY, woken_by="body")
    if row.exit == UNMET or (row.status in _ENDED_BADLY and row.name == JOIN_UNMET):
        return _unmet(taken, row)
    return _back(row)


def _unmet(taken: _Taken, row: Row) -> Reopened:
    """A join that could not be met is decided anew: an operator may have given what was missing."""
    if row.parents is not None:
        return Reopened(path=row.path, status=S.BLOCKED)
    met = any(parent in taken.given for parent in taken.graph.parents(row.path))
    return Reopened(path=row.path, status=S.READY, exit=None if met else UNMET, fresh=True)


def _back(row: Row) -> Reopened:
    """Where it stood when it was cancelled; what failed begins anew."""
    if row.was == S.BLOCKED:
        return Reopened(path=row.path, status=S.BLOCKED)
    if row.was == S.WAITING and (row.awaits is not None or row.was_due_at is not None):
        return Reopened(path=row.path, status=S.WAITING, awaits=row.awaits, due_at=row.was_due_at)
    if row.status == S.CANCELLED and row.was != S.WAITING:
        # As it was when it was claimed: a signal that has woken it is not lost.
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
            fresh=True,
            parents=None if number == 0 else (undo_path(left[number - 1]),),
        )
        for number, path in enumerate(left)
    ]
