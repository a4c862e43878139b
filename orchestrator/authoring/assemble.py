"""The one way in which every authoring form becomes a definition: nodes are flattened to steps that say what they come
after, and the result is held against the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from orchestrator.authoring.forms import exits_of
from orchestrator.authoring.misfits import Flat, misfit
from orchestrator.authoring.nodes import (
    MachineNode,
    Node,
    ParallelNode,
    SequenceNode,
    StepNode,
    Where,
    long_forms,
)
from orchestrator.errors import DefinitionError
from orchestrator.kinds.kinds import ACTIVITY
from orchestrator.model.definition import Definition

#: Words that name the place to the reader, such as `line 12: `; empty where there is nothing to say.
Locate: TypeAlias = Callable[[Where], str]
#: The edges that lead on from a node; None when all of them are taken by other steps, () before the first node.
Ends: TypeAlias = tuple[str, ...] | None

#: Bodies may be nested this deep.
MAX_NESTING = 20


def assemble(
    source: str,
    fields: Mapping[str, Any],
    nodes: Iterable[Node],
    *,
    machine: MachineNode | None = None,
    problems: Iterable[str] = (),
    locate: Locate = lambda where: "",
) -> Definition:
    """The definition of a sequence of nodes, or of a machine.

    Args:
        source: the file or module, for errors.
        fields: the definition's own fields, all but the steps and the machine.
        problems: what was found wrong before; raised together with what is found here.
        locate: names a place of the source.

    Raises:
        DefinitionError: every field that is unknown, missing or wrong, by step.
    """
    found = list(problems)
    content = long_forms(fields, found)
    flattened = _Flattening(problems=found, locate=locate)
    steps = flattened.body(tuple(nodes))
    transitions: list[list[Flat]] = []
    if steps:
        content["steps"] = [flat.content for flat in steps]
    if machine is not None:
        content["machine"], transitions = flattened.machine(machine)
    try:
        # Plain data first, or equal definitions of different forms would differ in a tuple here and a date there.
        definition = Definition.model_validate(to_jsonable_python(content))
    except ValidationError as error:
        # Of steps that could not be read is told already; that there are none is said of those that are left.
        wrong = [e for e in error.errors(include_url=False) if not (found and not steps and e["loc"] == ())]
        told = [misfit(details, steps, transitions, locate) for details in wrong]
        raise DefinitionError(source, found + told) from None
    except PydanticSerializationError as error:
        raise DefinitionError(source, [*found, f"inputs and outputs must be JSON data: {error}"]) from None
    if found:
        raise DefinitionError(source, found)
    return definition


@dataclass(kw_only=True)
class _Flattening:
    """Flattens the bodies of one definition."""

    problems: list[str]
    locate: Locate
    #: How many bodies are around the present one.
    depth: int = 0
    #: Exits of steps of the present body that a step names in its `after`, by step id.
    named: dict[str, set[str]] = field(default_factory=dict)

    def body(self, nodes: Sequence[Node]) -> list[Flat]:
        """The steps of a body."""
        if self.depth > MAX_NESTING:
            self.problems.append(f"steps are nested more than {MAX_NESTING} deep; make the inner ones a workflow")
            return []
        inner = _Flattening(problems=self.problems, locate=self.locate, depth=self.depth + 1, named=_named(nodes))
        steps: list[Flat] = []
        inner._sequence(nodes, (), steps)
        return steps

    def machine(self, machine: MachineNode) -> tuple[dict[str, Any], list[list[Flat]]]:
        """A machine's content, and the steps of each transition."""
        content, bodies = dict(machine.fields), []
        transitions = []
        for transition in machine.transitions:
            self.problems.extend(f"{self.locate(transition.where)}{problem}" for problem in transition.problems)
            bodies.append(self.body(transition.nodes))
            steps = {"steps": [flat.content for flat in bodies[-1]]} if bodies[-1] else {}
            transitions.append({**transition.fields, **steps})
        return {**content, "transitions": transitions}, bodies

    def _sequence(self, nodes: Iterable[Node], ends: Ends, steps: list[Flat]) -> Ends:
        for node in nodes:
            ends = self._place(node, ends, steps)
        return ends

    def _place(self, node: Node, ends: Ends, steps: list[Flat]) -> Ends:
        """Append the node's steps, `after` explicit. `ends` is what the node comes after, when it does not say so
        itself; returned is what leads on from it."""
        if isinstance(node, StepNode):
            return self._step(node, ends, steps)
        if isinstance(node, SequenceNode):
            return self._sequence(node.nodes, ends, steps)
        if not isinstance(node, ParallelNode):
            self.problems.append(f"{node!r} is no node; use step(), parallel(), sequence() or another node function")
            return ends
        if not node.branches or any(isinstance(branch, SequenceNode) and not branch.nodes for branch in node.branches):
            self.problems.append(
                f"{self.locate(node.where)}a parallel block or a branch of it is empty; give it a step, or remove it"
            )
        return _union([self._place(branch, ends, steps) for branch in node.branches]) if node.branches else ends

    def _step(self, node: StepNode, ends: Ends, steps: list[Flat]) -> Ends:
        name = node.fields.get("id")
        place = self.locate(node.where)
        self.problems.extend(f"{place}step {name}: {problem}" for problem in node.problems)
        if node.after is None and ends is None:
            self.problems.append(f"{place}step {name}: every exit before it leads elsewhere; say what it comes after")
        content = {**node.fields, "after": (ends or ()) if node.after is None else node.after}
        flat = Flat(content=content, where=node.where)
        steps.append(flat)
        if node.body is not None:
            flat.steps.extend(self.body(node.body))
            content["steps"] = [inner.content for inner in flat.steps]
        if not isinstance(name, str):
            return ()
        for twice in _repeated([branch.exit for branch in node.branches]):
            self.problems.append(f'{place}step {name}: two branches have the exit "{twice}"; give one another')
        onward = [self._sequence(branch.nodes, (f"{name}:{branch.exit}",), steps) for branch in node.branches]
        return _union([self._own_ends(name, node), *onward])

    def _own_ends(self, name: str, node: StepNode) -> Ends:
        """The step's edges that lead to the next node: its success, and exits that lead nowhere else."""
        taken = {branch.exit for branch in node.branches} | self.named.get(name, set())
        exits = exits_of(node.fields.get("kind", ACTIVITY), node.fields.get("spec", {}))
        own = (name,) if taken.isdisjoint(exits) else tuple(f"{name}:{each}" for each in exits if each not in taken)
        caught = dict.fromkeys(_catch_exits(node.fields.get("catch")))
        return (*own, *(f"{name}:{each}" for each in caught if each not in taken)) or None


def _union(ends: Iterable[Ends]) -> Ends:
    leading = [each for each in ends if each is not None]
    return tuple(dict.fromkeys(edge for each in leading for edge in each)) if leading else None


def _catch_exits(catch: Any) -> Iterator[str]:
    for each in catch if isinstance(catch, list) else ():
        exit_ = each.get("exit", "error") if isinstance(each, Mapping) else None
        if isinstance(exit_, str):
            yield exit_


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _named(nodes: Iterable[Any]) -> dict[str, set[str]]:
    """Exits that steps of one body name in `after`, by the step whose exits they are."""
    found: dict[str, set[str]] = {}
    left = list(nodes)
    while left:
        node = left.pop()
        if isinstance(node, StepNode):
            for edge in node.after if isinstance(node.after, list | tuple) else ():
                step, colon, exit_ = edge.partition(":") if isinstance(edge, str) else ("", "", "")
                if colon:
                    found.setdefault(step, set()).add(exit_)
            left.extend(inner for branch in node.branches for inner in branch.nodes)
        elif isinstance(node, SequenceNode):
            left.extend(node.nodes)
        elif isinstance(node, ParallelNode):
            left.extend(node.branches)
    return found
