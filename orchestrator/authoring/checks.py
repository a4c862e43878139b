"""What must hold of a definition before it is used: its graph, its expressions, its schemas and its activities."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from orchestrator.authoring.graph import Graph
from orchestrator.authoring.schema import schema_problems
from orchestrator.errors import ConfigurationError, DefinitionError, ExpressionError, PayloadError, UnknownActivity
from orchestrator.expressions import Path, compile_value
from orchestrator.model.definition import Definition, Step
from orchestrator.model.payload import encode
from orchestrator.spelling import did_you_mean

#: First names that expressions may use.
ROOTS = frozenset({"input", "steps", "execution"})
#: What a compensation's input may also use, and what it has.
UNDO = "undo"
#: What each root has; of steps, what each step has.
KEYS = {
    "undo": frozenset({"input", "output", "error"}),
    "execution": frozenset({"id", "correlation_id", "labels"}),
    "steps": frozenset({"output"}),
}
#: So many problems are told; in a large definition one wrong word may cause thousands, each searched for its like.
MOST_PROBLEMS = 100


class CheckedActivity(Protocol):
    """An activity that can tell what is wrong with an input before its expressions have values."""

    def check(self, params_template: Mapping[str, Any]) -> list[str]:
        """Problems, one sentence each."""


class Activities(Protocol):
    """Activities by name, as the action registry has them."""

    def get(self, name: str) -> CheckedActivity:
        """The activity of that name; UnknownActivity when there is none."""


def check(definition: Definition, source: str, registry: Activities | None) -> None:
    """Check a definition, in time linear in its size.

    Args:
        source: the file or module that it came from, for the error.
        registry: the activities that its steps may call; None leaves them unchecked.

    Raises:
        DefinitionError: every problem, each naming the step and the fix.
    """
    graph = Graph({step.id: step.after for step in definition.steps})
    found = list(islice(_problems(definition, graph, registry), MOST_PROBLEMS + 1))
    if len(found) > MOST_PROBLEMS:
        found[MOST_PROBLEMS:] = ["there are more problems; mend these first"]
    if found:
        raise DefinitionError(source, found)


def _problems(definition: Definition, graph: Graph, registry: Activities | None) -> Iterator[str]:
    yield from _duplicates(definition)
    yield from _edges(definition, graph)
    for cycle in graph.cycles:
        yield f"steps wait for each other: {' -> '.join(cycle)}; remove one of these from after"
    yield from _schemas(definition)
    yield from _output(definition, graph)
    for step in definition.steps:
        yield from _step(step, graph, registry)
    yield from _data(definition)


def _duplicates(definition: Definition) -> Iterator[str]:
    for step_id, count in Counter(step.id for step in definition.steps).items():
        if count > 1:
            yield f"step {step_id}: {count} steps have this id; rename all but one"


def _edges(definition: Definition, graph: Graph) -> Iterator[str]:
    counts = Counter(step.id for step in definition.steps)
    for step in definition.steps:
        for parent in step.after:
            # A step that comes after another of the same id is no cycle: it only needs its new name.
            if parent == step.id and counts[parent] == 1:
                yield f"step {step.id}: it comes after itself; remove it from after"
            elif parent not in graph:
                fix = did_you_mean(parent, graph.ids) or "; add it, or remove it from after"
                yield f'step {step.id}: there is no step "{parent}" to come after{fix}'


def _schemas(definition: Definition) -> Iterator[str]:
    for name in ("input_schema", "output_schema"):
        schema = getattr(definition, name)
        if schema is not None:
            yield from (f"{name}: {problem}" for problem in schema_problems(schema))


def _data(definition: Definition) -> Iterator[str]:
    """What the ledger could not store. Not asked of the spec, in which NaN has become null."""
    try:
        encode(definition.model_dump(), limit=sys.maxsize, what="the definition")
    except (PayloadError, ValueError) as error:
        yield str(error)


def _output(definition: Definition, graph: Graph) -> Iterator[str]:
    references, problems = _references({"output": definition.output})
    yield from problems
    for path in references:
        if problem := _root_problem(path, ROOTS) or _unknown_step(path, graph):
            yield f"output: {problem}"


def _step(step: Step, graph: Graph, registry: Activities | None) -> Iterator[str]:
    label = f"step {step.id}"
    yield from _input(label, step, step.input, ROOTS, graph)
    yield from _activity(label, step.activity, step.input, registry)
    if (undo := step.compensation) is not None:
        label = f"step {step.id}: compensation"
        yield from _input(label, step, undo.input, ROOTS | {UNDO}, graph)
        yield from _activity(label, undo.activity, undo.input, registry)


def _input(label: str, step: Step, template: Mapping[str, Any], roots: frozenset[str], graph: Graph) -> Iterator[str]:
    references, problems = _references(template)
    yield from (f"{label}: {problem}" for problem in problems)
    for path in references:
        problem = _root_problem(path, roots) or _unknown_step(path, graph) or _not_before(path, step, graph)
        if problem:
            yield f"{label}: {problem}"


def _activity(label: str, name: str, template: Mapping[str, Any], registry: Activities | None) -> Iterator[str]:
    if registry is None:
        return
    try:
        problems: Sequence[str] = registry.get(name).check(template)
    except (UnknownActivity, ConfigurationError) as error:
        problems = [str(error)]
    yield from (f"{label}: {problem}" for problem in problems)


def _references(template: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """The places that the entries refer to, each once, and what is wrong with entries that cannot be read."""
    found: dict[Path, None] = {}
    problems = []
    for name, value in template.items():
        try:
            found.update(dict.fromkeys(compile_value({name: value}).references))
        except ExpressionError as error:
            problems.append(f"{error}")
    return list(found), problems


def _root_problem(path: Path, roots: frozenset[str]) -> str | None:
    if path.root == UNDO and UNDO not in roots:
        return f"{{{{ {path} }}}}: undo exists in compensations only; use input, steps or execution"
    if path.root not in roots:
        fix = did_you_mean(path.root, roots) or f"; there are {', '.join(sorted(roots))}"
        return f'{{{{ {path} }}}}: nothing is named "{path.root}"{fix}'
    if path.root == "steps" and path.step is None:
        return f"{{{{ {path} }}}}: it names no step; write steps.<id>.output"
    keys = path.keys[1:] if path.root == "steps" else path.keys
    known = KEYS.get(path.root)
    if known and keys and keys[0] not in known:
        key, whose = str(keys[0]), "a step" if path.root == "steps" else path.root
        fix = did_you_mean(key, known) or f"; it has {', '.join(sorted(known))}"
        return f'{{{{ {path} }}}}: {whose} has no "{key}"{fix}'
    return None


def _unknown_step(path: Path, graph: Graph) -> str | None:
    if path.step is None or path.step in graph:
        return None
    fix = did_you_mean(path.step, graph.ids) or "; add it, or refer to another"
    return f'{{{{ {path} }}}}: there is no step "{path.step}"{fix}'


def _not_before(path: Path, step: Step, graph: Graph) -> str | None:
    """The problem of an output that need not exist when it is referred to."""
    # Among steps that wait for each other "before" has no meaning; the cycle is reported.
    if path.step is None or graph.cycles or graph.is_before(path.step, step.id):
        return None
    if path.step == step.id:
        return f"{{{{ {path} }}}}: a step has no output of its own yet; in compensations that is {{{{ undo.output }}}}"
    return f'{{{{ {path} }}}}: step "{path.step}" need not have ended by then; add it to after'
