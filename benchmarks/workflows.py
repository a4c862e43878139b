"""The workflows that are measured, and their activities."""

from __future__ import annotations

import json
import os

from orchestrator import BusinessError, StepContext, activity, parallel, step, workflow
from orchestrator.clock import elapsed, pause

#: The figure that starts, messages and long chains are asked for.
LONG = 1_000


@activity(name="benchmarks.noop")
def noop() -> None:
    """Nothing."""


@activity(name="benchmarks.undo_noop")
def undo_noop() -> None:
    """Nothing, backwards."""


@activity(name="benchmarks.refuse")
def refuse() -> None:
    """Fail for good, so that all before it is undone."""
    raise BusinessError("refused, to begin the undo")


@activity(name="benchmarks.linger")
def linger(context: StepContext, log: str) -> None:
    """Note in a file who begins which attempt when; a first attempt then waits to be killed."""
    note = {"execution": context.execution_id, "attempt": context.attempt, "pid": os.getpid(), "at": elapsed()}
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(note)}\n".encode())
    finally:
        os.close(descriptor)
    if context.attempt == 1:
        pause(3_600)


def path(number: int) -> str:
    """A step's id, as long as a telling name of a real one."""
    return f"reserve-warehouse-stock-{number:04}"


def _line(steps: int) -> list[str]:
    return [path(number) for number in range(steps)]


THREE = workflow("three", *(step(each, noop) for each in _line(3)))
TEN = workflow("ten", *(step(each, noop) for each in _line(10)))
THOUSAND = workflow("thousand", *(step(each, noop) for each in _line(LONG)))
THREE_APART = workflow("three-apart", *(step(each, noop) for each in _line(3)), fuse=False)
THOUSAND_APART = workflow("thousand-apart", *(step(each, noop) for each in _line(LONG)), fuse=False)
FAN_OUT = workflow(
    "fan-out", step("split", noop), parallel(*(step(each, noop) for each in _line(LONG))), step("join", noop)
)
SAGA = workflow(
    "saga", *(step(each, noop, compensation=undo_noop) for each in _line(LONG - 1)), step("refuse", refuse, retry=1)
)
LINGER = workflow("linger", step("linger", linger, {"log": "{{ input.log }}"}))
