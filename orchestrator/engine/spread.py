"""What follows a settle, after its commit: joins are decided, losers cancelled, steps with a body woken.

Each is a guarded statement of its own, so whoever else settled at the same moment may send the same ones: one of them
is the first, and has the row published. A crash in between leaves rows that the stalled sweep takes up, through here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.place import Following
from orchestrator.engine.core import Core
from orchestrator.engine.scope import Call, Scope, about
from orchestrator.ledger import executions, joins, parks
from orchestrator.ledger.joins import Joined
from orchestrator.model.exits import FAILED, SKIPPED


class Spread:
    """Goes on from the ends of steps of one execution."""

    def __init__(self, call: Call, graph: Graph, execution_id: str, scope: Scope) -> None:
        self._call, self._graph, self._execution_id, self._scope = call, graph, execution_id, scope
        #: Whether a step that the last `decide` skipped was the last of a branch of the workflow itself.
        self.ended = False

    def following(self, path: str, exit_by: str | None) -> Following:
        """What the end of a step by an exit brings about."""
        return self._graph.follow(path, exit_by, self._scope.lanes)

    def after(self, following: Following, leave: str | None = None) -> list[str]:
        """Decide the joins that a settle may have completed, and wake what it may have ended; the paths made ready.

        Args:
            leave: a join, or a step with a body, that is somebody else's to look after.
        """
        for join in following.races:
            # It may have been decided while the rows that this settle inserted could not be seen.
            if self._call(joins.decided, self._execution_id, join):
                self._cancel_losers(join)
        wakes = [] if following.wakes is None or following.wakes[0] == leave else [following.wakes]
        return self.decide([join for join in following.joins if join != leave], wakes)

    def decide(self, undecided: Iterable[str], asleep: Iterable[tuple[str, str]] = ()) -> list[str]:
        """Decide blocked steps, and what that brings about in turn; the paths made ready by it."""
        ready: list[str] = []
        waiting, wakes = deque(undecided), dict.fromkeys(asleep)
        self.ended = False
        while waiting:
            path = waiting.popleft()
            joined = self._join(path)
            if joined is None:
                continue
            ready += joined.ready
            if joined.verdict in {"ready", "unmet"}:
                ready.append(path)
                self._cancel_losers(path)
                continue
            behind = self.following(path, FAILED if joined.verdict == "dead" else SKIPPED)
            waiting.extend(behind.joins)
            self.ended = self.ended or behind.ends
            if behind.wakes is not None:
                wakes[behind.wakes] = None
        ready += [container for container, inner in wakes if self.wake(container, inner)]
        return ready

    def _join(self, path: str) -> Joined | None:
        skipped, dead = self.following(path, SKIPPED), self.following(path, FAILED)
        found: Joined | None = self._call(
            joins.join, self._execution_id, path, when_skipped=skipped.rows, when_dead=dead.rows
        )
        return found

    def _cancel_losers(self, path: str) -> None:
        losers = self._graph.losers(path)
        if losers:
            self._call(joins.cancel_losers, self._execution_id, losers)

    def wake(self, container: str, inner: str) -> bool:
        """Wake a step if nothing of its body is open; True to the one who did.

        Args:
            inner: what the paths of its body begin with.
        """
        return bool(self._call(parks.wake_for_body, self._execution_id, container, inner))

    def wake_around(self, path: str) -> list[str]:
        """Wake whatever waits for the end or the undo of a body that this step was the last of; the paths woken."""
        woken, at = [], path
        while (place := self._graph.place(at)).container is not None:
            if self.wake(place.container, place.inner):
                woken.append(place.container)
            at = place.container
        return woken


def bare_spread(core: Core, connection: Connection, execution_id: str) -> tuple[Graph, Spread] | None:
    """An execution's graph, and what goes on from the ends of its steps; None when there is no such execution."""
    found = executions.about(connection, execution_id)
    if found is None:
        return None
    graph = core.graphs.get(connection, found.definition_id)
    return graph, bare(connection, graph, execution_id)


def bare(connection: Connection, graph: Graph, execution_id: str) -> Spread:
    """What goes on from the ends of an execution's steps, for the shape of loops only: it computes no values."""

    def call(statement: Any, *args: Any, **options: Any) -> Any:
        return statement(connection, *args, **options)

    return Spread(call, graph, execution_id, Scope(call, graph, about(execution_id, None)))
