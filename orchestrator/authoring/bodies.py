"""The bodies of a definition, one within the other: which steps lie side by side, and what each body may refer to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.authoring.graph import Graph
from orchestrator.errors import OrchestratorError
from orchestrator.kinds.kind import Kind
from orchestrator.kinds.kinds import ACTIVITY, KINDS
from orchestrator.model.definition import Definition, Step


def parent_of(edge: str) -> str:
    """The step that an edge comes from, with or without an exit."""
    return edge.partition(":")[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A step with its kind made ready, or what is wrong with its spec."""

    step: Step
    #: None for activities, for unknown kinds, and when the spec is wrong.
    kind: Kind | None = None
    problem: str | None = None

    @cached_property
    def exits(self) -> tuple[str, ...]:
        """Every exit by which it may end, beside the ordinary one."""
        own = () if self.kind is None else self.kind.exits
        return tuple(dict.fromkeys([*own, *(catch.exit for catch in self.step.catch)]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """Steps side by side."""

    nodes: tuple[Node, ...]
    #: First names that its expressions may use.
    roots: frozenset[str]
    #: The body around it, and the step of that which holds it.
    outer: Body | None = None
    container: str | None = None
    #: Steps that may be referred to although nothing says that they come before: those of a machine's transitions.
    free: frozenset[str] = frozenset()

    @cached_property
    def graph(self) -> Graph:
        """What comes before what."""
        return Graph({node.step.id: [parent_of(edge) for edge in node.step.after] for node in self.nodes})

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Its nodes by id; of several with one id the first."""
        return {node.step.id: node for node in reversed(self.nodes)}

    def inner(self, node: Node) -> Body:
        """The body that a step holds."""
        names = KINDS[node.step.kind].names if node.step.kind in KINDS else frozenset[str]()
        return Body(
            nodes=tuple(_node(step) for step in node.step.steps),
            roots=self.roots | names,
            outer=self,
            container=node.step.id,
            free=self.free,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Bodies:
    """All bodies of a definition."""

    #: The definition's own, or one for each transition of its machine.
    outermost: tuple[Body, ...]
    #: Every step's id, however deep, and the step around it; of several with one id the first.
    containers: Mapping[str, str | None] = field(default_factory=dict)
    #: How many steps have the same id, where that is more than one.
    repeated: Mapping[str, int] = field(default_factory=dict)


def bodies_of(definition: Definition, roots: frozenset[str], event: str) -> Bodies:
    """A definition's bodies.

    Args:
        roots: first names that every expression may use.
        event: the one that those of transitions by an event may also use.
    """
    containers: dict[str, str | None] = {}
    counts: dict[str, int] = {}
    for step, container in _every(_outermost_steps(definition)):
        containers.setdefault(step.id, container)
        counts[step.id] = counts.get(step.id, 0) + 1
    if definition.machine is None:
        found = [Body(nodes=tuple(map(_node, definition.steps)), roots=roots)]
    else:
        free = frozenset(step.id for step in _outermost_steps(definition))
        found = [
            Body(
                nodes=tuple(map(_node, transition.steps)),
                roots=roots if transition.event is None else roots | {event},
                free=free,
            )
            for transition in definition.machine.transitions
        ]
    repeated = {name: count for name, count in counts.items() if count > 1}
    return Bodies(outermost=tuple(found), containers=containers, repeated=repeated)


def _outermost_steps(definition: Definition) -> Sequence[Step]:
    if definition.machine is None:
        return definition.steps
    return [step for transition in definition.machine.transitions for step in transition.steps]


def _every(steps: Sequence[Step]) -> Iterator[tuple[Step, str | None]]:
    left: list[tuple[Step, str | None]] = [(step, None) for step in reversed(steps)]
    while left:
        step, container = left.pop()
        yield step, container
        left.extend((inner, step.id) for inner in reversed(step.steps))


def _node(step: Step) -> Node:
    if step.kind == ACTIVITY or step.kind not in KINDS:
        return Node(step=step)
    try:
        return Node(step=step, kind=KINDS[step.kind](step))
    except (ValueError, OrchestratorError) as error:
        return Node(step=step, problem=str(error))
