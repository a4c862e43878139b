"""What the model says of a field that does not fit, as a sentence for authors: the place, what is wrong, the fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from orchestrator.authoring.nodes import Where
from orchestrator.kinds.kinds import KINDS
from orchestrator.model.definition import Catch, Compensation, Definition, Machine, State, Step, Transition
from orchestrator.model.policy import ErrorRule, RetryPolicy
from orchestrator.spelling import did_you_mean

#: Keys of a step that only the authoring forms have; the names of kinds are such keys, too.
SHORT_KEYS = ("fallback", "exits", "when", "then", "otherwise")
#: The model whose fields stand under a key.
_MODELS: dict[str, type[BaseModel]] = {
    "retry": RetryPolicy,
    "execution_retry": RetryPolicy,
    "compensation": Compensation,
    "catch": Catch,
    "errors": ErrorRule,
    "machine": Machine,
    "transitions": Transition,
}
#: How the model names the alternatives of a field that may be of several types.
_UNION = re.compile(r"(constrained-)?(str|int|bool)|literal\[.*\]")


@dataclass(frozen=True, kw_only=True)
class Flat:
    """A step of the definition to be, and where it was written."""

    content: dict[str, Any]
    where: Where
    #: Its body.
    steps: list[Flat] = field(default_factory=list)


def misfit(
    details: ErrorDetails,
    steps: Sequence[Flat],
    transitions: Sequence[Sequence[Flat]],
    locate: Callable[[Where], str],
) -> str:
    """One sentence on a field that does not fit: where it is, what is wrong, and the fix."""
    inner: Where = details["loc"]
    where, prefix = inner, ""
    known = list(Definition.model_fields)
    if found := _owner(inner, steps, transitions):
        flat, number, inner = found
        where, prefix = (*flat.where, *inner), f"step {flat.content.get('id', f'number {number}')}: "
        known = [*Step.model_fields, *SHORT_KEYS, *KINDS]
    if _UNION.fullmatch(str(inner[-1] if inner else "")):
        inner = inner[:-1]
    dotted = ".".join(map(str, inner))
    if details["type"] == "extra_forbidden":
        known = _known(inner, known)
        fix = did_you_mean(str(inner[-1]), known) or f"; known are {', '.join(known)}"
        return f'{locate(where)}{prefix}unknown key "{dotted}"{fix}'
    if details["type"] == "missing":
        return f'{locate(where[:-1])}{prefix}"{dotted}" is missing; add it'
    subject = f'"{dotted}": ' if dotted else ""
    if details["type"] == "value_error":
        return f"{locate(where)}{prefix}{subject}{details['msg'].removeprefix('Value error, ')}"
    return f"{locate(where)}{prefix}{subject}{details['msg']}; correct it"


def _owner(
    where: Where, steps: Sequence[Flat], transitions: Sequence[Sequence[Flat]]
) -> tuple[Flat, int, Where] | None:
    """The innermost step that a place of the definition lies in, its number in its body, and the place within it."""
    body, rest = steps, where
    match where:
        case ("machine", "transitions", int(number), *_) if number < len(transitions):
            body, rest = transitions[number], where[3:]
    found: tuple[Flat, int, Where] | None = None
    while len(rest) > 1 and rest[0] == "steps" and isinstance(rest[1], int) and rest[1] < len(body):
        flat = body[rest[1]]
        found = flat, rest[1] + 1, rest[2:]
        body, rest = flat.steps, rest[2:]
    return found


def _known(inner: Where, outermost: list[str]) -> list[str]:
    """The keys that there are where an unknown one stands."""
    keys = [key for key in inner[:-1] if isinstance(key, str)]
    if not keys:
        return outermost
    model = State if keys[-2:-1] == ["states"] else _MODELS.get(keys[-1])
    return outermost if model is None else [each.alias or name for name, each in model.model_fields.items()]
