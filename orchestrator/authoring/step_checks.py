"""What must hold of each step: its kind, its edges, its handlers, its references and its activities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.authoring.bodies import Bodies, Body, Node, parent_of
from orchestrator.authoring.failure_checks import step_policy_problems
from orchestrator.authoring.references import UNDO, problems_of, references
from orchestrator.errors import ConfigurationError, UnknownActivity
from orchestrator.kinds.kinds import ACTIVITY, KINDS, TASK
from orchestrator.model.definition import Step
from orchestrator.model.exits import RESERVED
from orchestrator.spelling import did_you_mean

#: Kinds whose steps have an effect of their own that can be undone.
UNDOABLE = frozenset({ACTIVITY, TASK, "workflow"})
#: Fields that mean something to activities only, and what to do instead.
_OF_ACTIVITIES = {
    "activity": "remove it, or the kind",
    "input": "write what the kind needs into its spec",
    "retry": "only activities are retried: remove it, or give it to the activities",
    "timeout": "give one to its spec, if that has one, or to its activities",
    "start_timeout": "only activities wait for a worker: remove it, or give it to the activities",
    "heartbeat_timeout": "only activities say that they go on: remove it, or give it to the activities",
}


class CheckedActivity(Protocol):
    """An activity that can tell what is wrong with an input before its expressions have values."""

    def check(self, params_template: Mapping[str, Any]) -> list[str]:
        """Problems, one sentence each."""


class Activities(Protocol):
    """Activities by name, as the action registry has them."""

    def get(self, name: str) -> CheckedActivity:
        """The activity of that name; UnknownActivity when there is none."""


def body_problems(body: Body, bodies: Bodies, registry: Activities | None) -> Iterator[str]:
    """What is wrong with the steps of a body, and of those within them."""
    for node in body.nodes:
        yield from (f"step {node.step.id}: {problem}" for problem in _edges(node, body, bodies))
    for cycle in body.graph.cycles:
        yield f"steps wait for each other: {' -> '.join(cycle)}; remove one of these from after"
    for node in body.nodes:
        label = f"step {node.step.id}"
        own = (
            _kind(node),
            _handlers(node),
            _join(node.step),
            step_policy_problems(node.step),
            _values(node, body, bodies),
        )
        yield from (f"{label}: {problem}" for problems in own for problem in problems)
        yield from _activities(node.step, registry)
        if node.step.steps:
            inner = body.inner(node)
            if node.kind is not None:
                paths = (path for template in node.kind.inner_templates for path in template.references)
                yield from (f"{label}: {problem}" for problem in problems_of(paths, bodies, inner, None))
            yield from body_problems(inner, bodies, registry)


def _edges(node: Node, body: Body, bodies: Bodies) -> Iterator[str]:
    step = node.step
    for edge in step.after:
        name, _, exit_ = edge.partition(":")
        if name == step.id:
            # A step that comes after another of the same id is no cycle: it only needs its new name.
            if name not in bodies.repeated:
                yield "it comes after itself; remove it from after"
        elif name not in body.graph:
            yield _no_parent(name, body, bodies)
        elif exit_ and exit_ not in (exits := body.by_id[name].exits) and body.by_id[name].problem is None:
            there = f"; it has {', '.join(exits)}" if exits else f"; it has none, so come after {name}"
            yield f'step {name} has no exit "{exit_}"{did_you_mean(exit_, exits) or there}'


def _no_parent(name: str, body: Body, bodies: Bodies) -> str:
    if name not in bodies.containers:
        fix = did_you_mean(name, body.graph.ids) or "; add it, or remove it from after"
        return f'there is no step "{name}" to come after{fix}'
    container = bodies.containers[name]
    where = "in another body" if container is None else f'inside of step "{container}"'
    fix = f'come after "{container}"' if container in body.graph else "remove it from after"
    return f'step "{name}" lies {where}, and a step can only come after those beside it; {fix}'


def _kind(node: Node) -> Iterator[str]:
    step = node.step
    if step.kind != ACTIVITY and step.kind not in KINDS:
        known = [ACTIVITY, *KINDS]
        fix = did_you_mean(step.kind, known) or f"; there are {', '.join(known)}"
        yield f'no kind is named "{step.kind}"{fix}'
        return
    if node.problem is not None:
        yield f"{step.kind}: {node.problem}"
    has_body = step.kind in KINDS and KINDS[step.kind].has_body
    if has_body and not step.steps:
        yield f"a step of kind {step.kind} holds steps; give it some"
    if step.steps and not has_body:
        yield f"a step of kind {step.kind} holds no steps; move them behind it, or into a block"
    if step.kind == ACTIVITY:
        if step.spec:
            yield "an activity has no spec; write its parameters into input"
        return
    for field, fix in _OF_ACTIVITIES.items():
        if getattr(step, field) and (field == "activity" or not KINDS[step.kind].makes_attempts):
            yield f"{field} means nothing to kind {step.kind}; {fix}"
    if step.on_error == "retry" and not KINDS[step.kind].makes_attempts:
        yield f"on_error retry means nothing to kind {step.kind}; give it to the activities, or catch the error"
    if step.compensation is not None and step.kind not in UNDOABLE:
        yield f"kind {step.kind} has no effect to undo; give the compensation to an activity"


def _handlers(node: Node) -> Iterator[str]:
    step = node.step
    clash = {catch.exit for catch in step.catch} & set(() if node.kind is None else node.kind.exits)
    yield from (f'catch: the kind has an exit "{exit_}" of its own; name it otherwise' for exit_ in sorted(clash))
    if step.catch and step.on_error == "continue":
        yield "with on_error continue it goes on after every error, so nothing is left to catch; remove one of them"
    for exit_ in RESERVED.intersection(node.exits):
        yield f'exit "{exit_}" is a word of the engine; name it otherwise'
    for catch, later in zip(step.catch, step.catch[1:], strict=False):
        if not catch.errors:
            yield f'its catch with exit "{later.exit}" is never reached, as that before catches every error; move it up'
            break


def _join(step: Step) -> Iterator[str]:
    parents = len({parent_of(edge) for edge in step.after})
    if isinstance(step.join, int) and step.join > parents:
        yield f"it joins {step.join}, but comes after {parents} steps only; lower join, or add to after"
    elif step.join == "any" and not parents:
        yield "it joins any, but comes after nothing; remove join, or add to after"


def _values(node: Node, body: Body, bodies: Bodies) -> Iterator[str]:
    """What is wrong with the values that are computed for the step itself and for its compensation."""
    step = node.step
    paths, problems = references(step.input)
    if node.kind is not None:
        paths.extend(path for template in node.kind.templates for path in template.references)
    yield from problems
    yield from problems_of(dict.fromkeys(paths), bodies, body, step.id)
    if step.compensation is not None:
        paths, problems = references(step.compensation.input)
        found = problems_of(paths, bodies, body, step.id, more=frozenset({UNDO}))
        yield from (f"compensation: {problem}" for each in (problems, found) for problem in each)


def _activities(step: Step, registry: Activities | None) -> Iterator[str]:
    if registry is None:
        return
    if step.kind == ACTIVITY and step.activity is not None:
        yield from _activity(f"step {step.id}", step.activity, step.input, registry)
    if (undo := step.compensation) is not None:
        yield from _activity(f"step {step.id}: compensation", undo.activity, undo.input, registry)


def _activity(label: str, name: str, template: Mapping[str, Any], registry: Activities) -> Iterable[str]:
    try:
        problems: Sequence[str] = registry.get(name).check(template)
    except (UnknownActivity, ConfigurationError) as error:
        problems = [str(error)]
    return [f"{label}: {problem}" for problem in problems]
