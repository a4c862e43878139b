"""Whether what expressions refer to exists, is sure to have ended by then, and is seen from where they stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from orchestrator.authoring.bodies import Bodies, Body
from orchestrator.errors import ExpressionError
from orchestrator.expressions import Path, compile_value
from orchestrator.kinds.kinds import KINDS
from orchestrator.spelling import did_you_mean

#: First names that every expression may use.
ROOTS = frozenset({"input", "steps", "execution"})
#: What a compensation's input may also use, and what the transitions of a machine by an event may.
UNDO, EVENT = "undo", "event"
#: What each root has; of steps, what each step has.
KEYS = {
    "undo": frozenset({"input", "output", "error"}),
    "execution": frozenset({"id", "correlation_id", "labels"}),
    "event": frozenset({"name", "payload", "actor"}),
    "steps": frozenset({"output", "error", "status", "exit"}),
}


def references(template: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """The places that the entries refer to, each once, and what is wrong with entries that cannot be read."""
    found: dict[Path, None] = {}
    problems = []
    for name, value in template.items():
        try:
            found.update(dict.fromkeys(compile_value({name: value}).references))
        except ExpressionError as error:
            problems.append(f"{error}")
    return list(found), problems


def problems_of(
    paths: Iterable[Path], bodies: Bodies, body: Body, at: str | None, *, more: frozenset[str] = frozenset()
) -> Iterator[str]:
    """What is wrong with references.

    Args:
        body: the body that they are computed in.
        at: the step of it that they belong to, which sees the steps before it; None sees all steps of the body.
        more: further first names that may be used.
    """
    for path in paths:
        problem = _root_problem(path, body.roots | more) or _step_problem(path, bodies, body, at)
        if problem:
            yield f"{{{{ {path} }}}}: {problem}"


def output_problems(value: Any, bodies: Bodies, own: Collection[str] = ()) -> Iterator[str]:
    """What is wrong with the references of a definition's output, which sees every step that lies in no other.

    Args:
        own: steps that are there besides: a machine's `machine`, whose output has the last state.
    """
    paths, problems = references({"output": value})
    yield from problems
    for path in paths:
        problem = _root_problem(path, ROOTS)
        step = None if path.step in own else path.step
        if not problem and step is not None and bodies.containers.get(step, "none") is not None:
            problem = _unknown(step, bodies)
        if problem:
            yield f"output: {{{{ {path} }}}}: {problem}"


def _root_problem(path: Path, roots: frozenset[str]) -> str | None:
    if path.root not in roots:
        return _unknown_root(path.root, roots)
    if path.root == "steps" and path.step is None:
        return "it names no step; write steps.<id>.output"
    keys = path.keys[1:] if path.root == "steps" else path.keys
    known = KEYS.get(path.root)
    if known and keys and keys[0] not in known:
        key, whose = str(keys[0]), "a step" if path.root == "steps" else path.root
        fix = did_you_mean(key, known) or f"; it has {', '.join(sorted(known))}"
        return f'{whose} has no "{key}"{fix}'
    return None


def _unknown_root(root: str, roots: frozenset[str]) -> str:
    if root == UNDO:
        return "undo exists in compensations only; use input, steps or execution"
    if root == EVENT:
        return "event exists in a machine's transitions by an event only; use input, steps or execution"
    if kinds := [name for name, kind in KINDS.items() if root in kind.names]:
        return f"{root} exists inside of {' and '.join(kinds)} only; use input, steps or execution"
    fix = did_you_mean(root, roots) or f"; there are {', '.join(sorted(roots))}"
    return f'nothing is named "{root}"{fix}'


def _step_problem(path: Path, bodies: Bodies, body: Body, at: str | None) -> str | None:
    """The problem of a step that cannot be seen, or that need not have ended when it is referred to."""
    name = path.step
    if name is None:
        return None
    where: Body | None = body
    while where is not None:
        if name in where.graph:
            # Among steps that wait for each other "before" has no meaning; the cycle is reported.
            if at is None or where.graph.cycles or at not in where.graph or where.graph.is_before(name, at):
                return None
            return _not_before(name, at, is_own=where is body)
        at, where = where.container, where.outer
    return None if name in body.free else _unknown(name, bodies)


def _not_before(name: str, at: str, *, is_own: bool) -> str:
    if name == at and is_own:
        return "a step has no output of its own yet; in compensations that is {{ undo.output }}"
    if name == at:
        return f'step "{name}" holds this one and has not ended yet; refer to another'
    fix = "add it to after" if is_own else f'add it to after of step "{at}"'
    return f'step "{name}" need not have ended by then; {fix}'


def _unknown(name: str, bodies: Bodies) -> str:
    container = bodies.containers.get(name)
    if container is not None:
        return f'step "{name}" is seen inside of step "{container}" only; refer to steps.{container}.output'
    fix = did_you_mean(name, bodies.containers) or "; add it, or refer to another"
    return f'there is no step "{name}"{fix}'
