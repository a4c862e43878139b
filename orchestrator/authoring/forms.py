"""Short forms of kinds: what an author may write in the place of a kind's `spec`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from orchestrator.errors import OrchestratorError
from orchestrator.kinds.kind import Kind, Spec
from orchestrator.kinds.kinds import ACTIVITY, KINDS
from orchestrator.model.definition import Step

#: The exit that `when` takes if its condition holds, and the one otherwise.
THEN, OTHERWISE = "then", "default"


@cache
def spec_model(kind: type[Kind]) -> type[Spec] | None:
    """The model of a kind's `spec`: the one that its module defines; None when there is none."""
    for value in vars(sys.modules[kind.__module__]).values():
        if isinstance(value, type) and issubclass(value, Spec) and value.__module__ == kind.__module__:
            return value
    return None


def keys_of(model: type[Spec]) -> tuple[str, ...]:
    """A spec's keys as authors write them."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def spec_of(kind: str, value: Any) -> Any:
    """The spec of what stands behind a kind's name: a mapping is the spec itself, nothing is an empty one, and any
    other value is that of the spec's first key, such as `24h` behind `delay`."""
    if value is None:
        return {}
    if isinstance(value, dict) or (model := spec_model(KINDS[kind])) is None or not (keys := keys_of(model)):
        return value
    return {keys[0]: value}


def is_body(kind: str, value: Any) -> bool:
    """Whether what stands behind a kind's name is its body: a list, of a kind that has no keys."""
    model = spec_model(KINDS[kind])
    return isinstance(value, list) and KINDS[kind].has_body and (model is None or not keys_of(model))


def cases_of(cases: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A choice's spec of exits and their conditions."""
    return {"cases": [{"exit": name, "when": condition} for name, condition in cases]}


def exits_of(kind: Any, spec: Any) -> tuple[str, ...]:
    """A kind's exits beside the ordinary one; none when its spec is wrong, which the checks will tell."""
    if kind == ACTIVITY or not isinstance(kind, str) or kind not in KINDS:
        return ()
    try:
        return KINDS[kind](Step(id="exits", kind=kind, spec=spec)).exits
    except (ValueError, OrchestratorError):
        return ()
