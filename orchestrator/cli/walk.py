"""Everything that the compiler would ever plan for a definition: from its roots, as if each part had succeeded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.compiler.compile import compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.plan import Chain, Chord, Segment
from orchestrator.compiler.reverse import reverse
from orchestrator.model.identity import undo_path
from orchestrator.model.snapshot import Attempted, Snapshot
from orchestrator.model.state import ExecutionStatus, StepStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one settle makes ready."""

    #: Steps that have settled by then; none at the start.
    after: tuple[str, ...]
    parts: tuple[Chain | Chord, ...]
    #: The worker that settled last goes on without a message.
    in_place: bool = False


def walk(graph: Graph) -> Iterator[Stage]:
    """The forward stages, each step in exactly one of them."""
    settled: set[str] = set()
    planned = set(graph.roots)
    pending = deque([Stage(after=(), parts=_plan(graph, graph.roots))])
    while pending:
        stage = pending.popleft()
        yield stage
        for part in stage.parts:
            settled.update(path for segment in segments(part) for path in segment.paths)
            tail = segments(part)[-1].tail
            ready = tuple(
                child for child in graph.children(tail) if child not in planned and settled >= set(graph.parents(child))
            )
            if ready:
                planned.update(ready)
                pending.append(_stage(graph, tail, ready))
            planned |= settled


def _stage(graph: Graph, tail: str, ready: tuple[str, ...]) -> Stage:
    after = graph.parents(ready[0]) if len(ready) == 1 else (tail,)
    alike = graph.fuses(tail) and graph.fuses(ready[0]) and graph.queue(tail) == graph.queue(ready[0])
    return Stage(after=after, parts=_plan(graph, ready), in_place=len(ready) == 1 and alike)


def _plan(graph: Graph, ready: tuple[str, ...]) -> tuple[Chain | Chord, ...]:
    return compile_plan(graph, Snapshot(status=ExecutionStatus.RUNNING, ready=ready)).parts


def undo(graph: Graph) -> tuple[Chain | Chord, ...]:
    """The compensation of an execution whose every step had succeeded before it was undone."""
    order = [
        Attempted(path=path, status=StepStatus.SUCCEEDED, transactional=False)
        for stage in walk(graph)
        for part in stage.parts
        for segment in segments(part)
        for path in segment.paths
    ]
    paths = [undo_path(path) for path in reverse(graph, order)]
    found: list[Chain | Chord] = []
    while paths:
        snapshot = Snapshot(status=ExecutionStatus.COMPENSATING, ready=(paths[0],), pending_undo={paths[0]: paths[1:]})
        parts = compile_plan(graph, snapshot).parts
        found += parts
        paths = paths[sum(len(segments(part)) for part in parts) :]
    return tuple(found)


def segments(part: Chain | Chord) -> tuple[Segment, ...]:
    """All segments of a part, the one that its canvas ends with last."""
    return part.segments if isinstance(part, Chain) else (*part.header, part.body)


def as_data(part: Chain | Chord) -> dict[str, Any]:
    """A part as JSON data."""
    if isinstance(part, Chain):
        return {"kind": "chain", "segments": [_segment(segment) for segment in part.segments]}
    return {"kind": "chord", "header": [_segment(segment) for segment in part.header], "body": _segment(part.body)}


def _segment(segment: Segment) -> dict[str, Any]:
    return {"paths": list(segment.paths), "queue": segment.queue}
