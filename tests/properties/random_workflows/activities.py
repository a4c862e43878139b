"""What the generated steps do: leave a trace, take a random tiny while, fail as told, compute."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from nodes.witness import present

from orchestrator import BusinessError, StepContext, TransientError, activity
from random_workflows.mixing import mixed

#: Names, in a worker's environment, the factor by which its activities are slower than others.
SLOWNESS = "PROPERTIES_SLOWNESS"


@activity
def mix(ctx: StepContext, values: Any = None, fails: int = 0, business: bool = False) -> int:
    """Fail in the first attempts; then the number that the values give."""
    seen = present()
    seen.note(ctx)
    try:
        _while(ctx)
        if ctx.attempt <= fails:
            raise BusinessError("as told") if business else TransientError("as told")
        return mixed(values)
    finally:
        seen.note(ctx, "ended")


@activity
def unmix(ctx: StepContext, values: Any = None, fails: int = 0) -> int:
    """The same for compensations."""
    return mix(ctx, values, fails)


def _while(ctx: StepContext) -> None:
    """Drawn from the execution's correlation id, so that the same seed gives the same delays."""
    drawn = random.Random(f"{ctx.correlation_id}/{ctx.path}/{ctx.attempt}")
    longest = drawn.choice([0, 0, 0, 0.002, 0.005, 0.03])
    time.sleep(drawn.random() * longest * float(os.environ.get(SLOWNESS, "1")))
