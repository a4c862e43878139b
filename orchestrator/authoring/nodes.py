"""Authoring nodes, and the one way in which every authoring form becomes a definition.

A workflow is written as a sequence whose nodes are steps, parallel blocks and further sequences. The definition has
flat steps only, each with the ids that it comes after. Both the Python and the file form build nodes, and `assemble`
flattens them, so that equal workflows give equal definitions whatever form they are written in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, to_jsonable_python

from orchestrator.errors import DefinitionError
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.policy import RetryPolicy
from orchestrator.spelling import did_you_mean

#: Keys and indexes that lead to a place in a file.
Where: TypeAlias = tuple[str | int, ...]
#: Words that name the place to the reader, such as `line 12: `; empty where there is nothing to say.
Locate: TypeAlias = Callable[[Where], str]


@dataclass(frozen=True, kw_only=True)
class StepNode:
    """A step as it was written."""

    #: The fields of the definition's step, `after` aside.
    fields: Mapping[str, Any]
    #: Ids of the steps that it comes after; None for the previous node of its sequence.
    after: Any = None
    #: Where it was written.
    where: Where = ()


@dataclass(frozen=True, kw_only=True)
class ParallelNode:
    """Branches that start together; what follows waits for the end of each."""

    branches: tuple[Node, ...]
    where: Where = ()


@dataclass(frozen=True, kw_only=True)
class SequenceNode:
    """Nodes of which each comes after the one before."""

    nodes: tuple[Node, ...]
    where: Where = ()


Node: TypeAlias = StepNode | ParallelNode | SequenceNode

#: The model whose fields stand under a key; steps and the definition itself are told apart by their place.
_MODELS: Mapping[object, type[BaseModel]] = {"retry": RetryPolicy, "compensation": Compensation}


def step_node(fields: Mapping[str, Any], *, where: Where = ()) -> StepNode:
    """A step from its written fields, short forms included: a number for `retry`, a name for `compensation`."""
    written = dict(fields)
    after = written.pop("after", None)
    return StepNode(fields=_long_forms(written), after=[after] if isinstance(after, str) else after, where=where)


def assemble(
    source: str,
    fields: Mapping[str, Any],
    nodes: Iterable[Node],
    *,
    problems: Iterable[str] = (),
    locate: Locate = lambda where: "",
) -> Definition:
    """The definition of a sequence of nodes.

    Args:
        source: the file or module, for errors.
        fields: the definition's own fields, all but the steps.
        problems: what was found wrong before; raised together with what is found here.
        locate: names a place of the source.

    Raises:
        DefinitionError: every field that is unknown, missing or wrong, by step.
    """
    found = list(problems)
    steps: list[StepNode] = []
    _flatten(SequenceNode(nodes=tuple(nodes)), (), steps, found, locate)
    try:
        content = {**_long_forms(fields), "steps": [{**node.fields, "after": node.after} for node in steps]}
        # Plain data first, or equal definitions of different forms would differ in a tuple here and a date there.
        definition = Definition.model_validate(to_jsonable_python(content))
    except ValidationError as error:
        # Of steps that could not be read is told already; "too short" is said of those that are left.
        unread = bool(steps or found)
        wrong = [e for e in error.errors(include_url=False) if not (unread and e["loc"] == ("steps",))]
        raise DefinitionError(source, found + [_problem(details, steps, locate) for details in wrong]) from None
    except PydanticSerializationError as error:
        raise DefinitionError(source, [*found, f"inputs and outputs must be JSON data: {error}"]) from None
    if found:
        raise DefinitionError(source, found)
    return definition


def _flatten(node: Node, ends: Any, steps: list[StepNode], problems: list[str], locate: Locate) -> Any:
    """Append the node's steps, `after` explicit. `ends` are the ids that the node comes after, when it does not say so
    itself; returned are those that come last in it."""
    if isinstance(node, StepNode):
        steps.append(StepNode(fields=node.fields, after=ends if node.after is None else node.after, where=node.where))
        return (node.fields["id"],) if "id" in node.fields else ()
    if isinstance(node, SequenceNode):
        for part in node.nodes:
            ends = _flatten(part, ends, steps, problems, locate)
        return ends
    if not isinstance(node, ParallelNode):
        problems.append(f"{node!r} is no node; use step(), parallel() or sequence()")
        return ends
    if not node.branches or any(isinstance(branch, SequenceNode) and not branch.nodes for branch in node.branches):
        problems.append(
            f"{locate(node.where)}a parallel block or a branch of it is empty; give it a step, or remove it"
        )
    return tuple(end for branch in node.branches for end in _flatten(branch, ends, steps, problems, locate))


def _long_forms(fields: Mapping[str, Any]) -> dict[str, Any]:
    long = dict(fields)
    retry, compensation = long.get("retry"), long.get("compensation")
    if isinstance(retry, int) and not isinstance(retry, bool):
        long["retry"] = {"max_attempts": retry}
    if isinstance(compensation, str):
        long["compensation"] = {"activity": compensation}
    elif isinstance(compensation, Mapping):
        long["compensation"] = _long_forms(compensation)
    return long


def _problem(details: ErrorDetails, steps: list[StepNode], locate: Locate) -> str:
    """One sentence on a field that does not fit: where it is, what is wrong, and the fix."""
    inner: Where = details["loc"]
    where, prefix = inner, ""
    model: type[BaseModel] = Definition
    if len(inner) > 1 and inner[0] == "steps" and isinstance(inner[1], int):
        node, number, inner = steps[inner[1]], inner[1] + 1, inner[2:]
        where, prefix, model = (*node.where, *inner), f"step {node.fields.get('id', f'number {number}')}: ", Step
    dotted = ".".join(map(str, inner))
    if details["type"] == "extra_forbidden":
        known = list(_MODELS.get(inner[-2] if len(inner) > 1 else None, model).model_fields)
        all_known = f"; known are {', '.join(known)}"
        return f'{locate(where)}{prefix}unknown key "{dotted}"{did_you_mean(str(inner[-1]), known) or all_known}'
    if details["type"] == "missing":
        return f'{locate(where[:-1])}{prefix}"{dotted}" is missing; add it'
    subject = f'"{dotted}": ' if dotted else ""
    return f"{locate(where)}{prefix}{subject}{details['msg']}; correct it"
