"""Examples from a seed, and the smallest one that still fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from orchestrator.model.definition import Step
from random_workflows.strategies import Example, examples

#: Smaller ones are left to shrinking.
SMALLEST = 5


def drawn(count: int, seed: int) -> list[Example]:
    """So many different examples; the same seed gives the same."""
    found: dict[str, Example] = {}

    @seeded(seed)
    @_settings(count * 10, Phase.generate)
    @given(examples())
    def collect(example: Example) -> None:
        if len(found) < count and _size(example.definition.steps) >= SMALLEST:
            found.setdefault(_key(example), example)
        if len(found) == count:
            raise _Enough

    with suppress(_Enough):
        collect()
    return [_named(example, f"random-{seed}-{number}") for number, example in enumerate(found.values())]


class _Enough(BaseException):
    """Hypothesis lets it through."""


def shrunk(failing: Example, seed: int, count: int, fails: Callable[[Example], bool], seconds: float) -> None:
    """Try ever smaller examples that fail as one of those drawn does, for so many seconds.

    Args:
        count: how many were drawn.
        fails: tells of an example whether it fails; what has failed once counts as failing for ever.
    """
    deadline = time.monotonic() + seconds
    known = {_key(failing): True}
    reached = False

    @seeded(seed)
    @_settings(count * 10, Phase.generate, Phase.shrink)
    @given(examples())
    def falsify(example: Example) -> None:
        nonlocal reached
        key = _key(example)
        reached = reached or key in known
        # Before it comes to the failing one, hypothesis only draws the same examples again.
        if not reached:
            return
        if time.monotonic() > deadline:
            raise _Enough
        if key not in known:
            known[key] = fails(_named(example, f"shrunk-{seed}-{len(known)}"))
        assert not known[key]

    with suppress(_Enough, AssertionError):
        falsify()


def _settings(count: int, *phases: Phase) -> settings:
    return settings(
        max_examples=count,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def _named(example: Example, name: str) -> Example:
    return Example(definition=example.definition.model_copy(update={"name": name}), input=example.input)


def _size(steps: Sequence[Step]) -> int:
    return sum(1 + _size(step.steps) for step in steps)


def _key(example: Example) -> str:
    definition = example.definition.model_copy(update={"name": "random"})
    return f"{definition.checksum()} {example.input}"
