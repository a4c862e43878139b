"""compile_plan(graph, snapshot) -> Plan: from what is ready to the next point that something else must decide.

Pure. Start, retry, recovery and compensation all come through here; recovery differs only in its snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.own_tasks import task_of
from orchestrator.compiler.plan import Chain, Chord, Plan, Segment
from orchestrator.model.identity import undone_path
from orchestrator.model.snapshot import Snapshot

#: Segments of one chain: each message carries the rest of its chain, and sixteen would pass 4 KB.
CHAIN_LIMIT = 8


def compile_plan(graph: Graph, snapshot: Snapshot) -> Plan:
    """What to publish for the ready steps of an execution."""
    undo = tuple(_undo(graph, snapshot))
    if snapshot.container is not None and len(snapshot.ready) > 1:
        # Lanes: each is one task that goes through many iterations, and the loop is the body that follows them.
        header = tuple(_segment(graph, head) for head in snapshot.ready)
        if any(segment.task for segment in header):
            return Plan(parts=tuple(Chain(segments=(segment,)) for segment in header))
        return Plan(parts=(Chord(header=header, body=_segment(graph, snapshot.container)),))
    forward = (head for head in snapshot.ready if undone_path(head) is None)
    chains = [Chain(segments=tuple(_linear(graph, head))) for head in forward]
    return Plan(parts=(*undo, *_join_up(graph, chains, snapshot.settled)))


def _linear(graph: Graph, head: str) -> Iterator[Segment]:
    """The segments from `head` as long as each is followed by exactly one that waits for nothing else."""
    for _ in range(CHAIN_LIMIT):
        segment = _segment(graph, head)
        yield segment
        following = graph.following(segment.tail)
        if following is None or segment.task or task_of(graph.step(following)):
            return
        head = following


def _segment(graph: Graph, head: str) -> Segment:
    return Segment(paths=graph.segment(head), queue=graph.queue(head), task=task_of(graph.step(head)))


def _join_up(graph: Graph, chains: list[Chain], settled: frozenset[str]) -> Iterator[Chain | Chord]:
    """Chains as they are, but those that together complete one join as a chord.

    A chord's body starts when its header has ended: that is the definition's own rule only if the header's tails are
    exactly the parents still missing. Branches of several segments stay chains (no canvas nests another), and their
    last arriver finds the join through the ledger.
    """
    branches: dict[str, list[Segment]] = defaultdict(list)
    for chain in chains:
        join = _only_join(graph, chain)
        if join is not None:
            branches[join].append(chain.segments[0])
    chords = {
        join: Chord(header=tuple(header), body=_segment(graph, join))
        for join, header in branches.items()
        if len(header) > 1 and {segment.tail for segment in header} == set(graph.parents(join)) - settled
    }
    for chain in chains:
        if _only_join(graph, chain) not in chords:
            yield chain
    yield from chords.values()


def _only_join(graph: Graph, chain: Chain) -> str | None:
    """The join that a one-segment branch leads to and nothing else."""
    if len(chain.segments) != 1 or chain.segments[0].task:
        return None
    children = graph.children(chain.segments[0].tail)
    if len(children) != 1 or not graph.is_plain_join(children[0]) or task_of(graph.step(children[0])):
        return None
    return children[0]


def _undo(graph: Graph, snapshot: Snapshot) -> Iterator[Chain]:
    """Compensations in the order the ledger holds them, one task each: an undo is never fused. Of a whole execution
    one is ready at a time; parts go back side by side."""
    for head in snapshot.ready:
        if undone_path(head) is not None:
            paths = (head, *snapshot.pending_undo.get(head, ()))[:CHAIN_LIMIT]
            yield Chain(segments=tuple(Segment(paths=(path,), queue=graph.queue(path)) for path in paths))
