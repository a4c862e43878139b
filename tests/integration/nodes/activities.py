"""What the tests' steps do: leave a trace, wait for the test, fail as told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import text

from nodes import witness
from orchestrator import BusinessError, StepContext, TransientError, activity
from orchestrator.runtime import segment

#: Where the transactional activity writes; the tests make the table.
EFFECT = text("INSERT INTO effect (execution, path, attempt) VALUES (:execution, :path, :attempt)")


@activity
def echo(ctx: StepContext, value: Any = None) -> Any:
    """Leave a trace and return the value."""
    witness.present().note(ctx)
    return value


@activity
async def echo_async(ctx: StepContext, value: Any = None) -> Any:
    """The same on the event loop."""
    witness.present().note(ctx)
    await asyncio.sleep(0)
    return value


@activity
def total(values: list[int]) -> int:
    """Their sum."""
    return sum(values)


@activity(interruptible=False)
def hold(ctx: StepContext, gate: str = "gate", attempts: int = 1, value: Any = None) -> Any:
    """Wait at a gate, in the first attempts."""
    seen = witness.present()
    seen.note(ctx)
    if ctx.attempt <= attempts:
        seen.pass_gate(f"{ctx.execution_id}.{gate}")
    seen.note(ctx, "ended")
    return value


@activity(transactional=True)
def write_and_hold(ctx: StepContext, gate: str = "gate", attempts: int = 1, fail: bool = False) -> None:
    """Write through the ledger's transaction, then wait at a gate in the first attempts."""
    seen = witness.present()
    ctx.connection.execute(EFFECT, {"execution": ctx.execution_id, "path": ctx.path, "attempt": ctx.attempt})
    seen.note(ctx)
    if ctx.attempt <= attempts:
        seen.pass_gate(f"{ctx.execution_id}.{gate}")
    seen.note(ctx, "ended")
    if fail:
        raise BusinessError("as told, after writing")


@activity
def meet(ctx: StepContext, parties: int) -> None:
    """Return at the same moment as the others."""
    seen = witness.present()
    seen.note(ctx)
    seen.meet(ctx.execution_id, parties)


@activity
def fail(ctx: StepContext, attempts: int = 1, business: bool = False, gate: str | None = None) -> int:
    """Fail in the first attempts; the number of the one that does not."""
    seen = witness.present()
    seen.note(ctx)
    if gate is not None:
        seen.pass_gate(f"{ctx.execution_id}.{gate}")
    if ctx.attempt <= attempts:
        raise BusinessError("as told") if business else TransientError("as told")
    return ctx.attempt


@activity
def sleep(ctx: StepContext, seconds: float, attempts: int = 1) -> int:
    """Sleep too long in the first attempts."""
    witness.present().note(ctx)
    if ctx.attempt <= attempts:
        time.sleep(seconds)
    return ctx.attempt


@activity
async def sleep_async(ctx: StepContext, seconds: float, attempts: int = 1) -> int:
    """The same on the event loop."""
    witness.present().note(ctx)
    if ctx.attempt <= attempts:
        await asyncio.sleep(seconds)
    return ctx.attempt


@activity
def swallow(ctx: StepContext, seconds: float, attempts: int = 1) -> int:
    """Sleep too long in the first attempts, and catch whatever is an Exception."""
    witness.present().note(ctx)
    end = time.monotonic() + seconds
    while ctx.attempt <= attempts and time.monotonic() < end:
        try:
            time.sleep(seconds)
        except Exception:
            continue
    return ctx.attempt


@activity
def padded(value: int, size: int) -> dict[str, Any]:
    """The value in a result of about so many bytes."""
    return {"value": value, "padding": "x" * size}


@activity
def count_and_sum(results: list[dict[str, Any]]) -> dict[str, Any]:
    """How many results there are, and whether they are in order."""
    values = [found["value"] for found in results]
    size = sum(len(found["padding"]) for found in results)
    return {"count": len(values), "in_order": values == sorted(values), "bytes": size}


@activity
def sabotage() -> int:
    """Succeed, and have the worker's next reading of an output fail: this one's, once it is settled."""
    module = vars(segment)
    sound = module["json"]

    class Broken:
        @staticmethod
        def loads(text: str) -> Any:
            module["json"] = sound
            raise ValueError(f"sabotaged, at {text}")

    module["json"] = Broken
    return 7
