"""Where a path leads in a definition."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.model.definition import Definition, Step

_PART = re.compile(r"([^.\[]+)(?:\[(\d+)\])?")


def body_at(definition: Definition, path: str) -> Sequence[Step]:
    """The steps beside the one at a path, itself among them."""
    steps: Sequence[Step] = definition.steps
    for name, _ in _PART.findall(path)[:-1]:
        steps = next((step.steps for step in steps if step.id == name), ())
    return steps


def step_at(definition: Definition, path: str) -> Step:
    """The step at a path."""
    name = _PART.findall(path)[-1][0]
    return next(step for step in body_at(definition, path) if step.id == name)


def is_place(definition: Definition, path: str) -> bool:
    """Whether the definition has a step at a path."""
    return any(step.id == _PART.findall(path)[-1][0] for step in body_at(definition, path))


def prefix_of(path: str) -> str:
    """What the path has before the step's id."""
    return path[: path.rfind(".") + 1]


def container_of(path: str) -> tuple[str, int] | None:
    """The step around, and which iteration of it; None at the top."""
    prefix = prefix_of(path)
    if not prefix:
        return None
    container, _, index = prefix[:-2].rpartition("[")
    return container, int(index)
