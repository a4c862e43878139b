"""Activities that take long: side effects, logs, heartbeats, interruptions, and one that hears nothing."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from uuid import uuid4

from nodes import witness
from nodes.activities import echo, fail, hold
from orchestrator import (
    AttemptInterrupted,
    RetryPolicy,
    StepContext,
    TransientError,
    activity,
    compensation,
    parallel,
    step,
    workflow,
)
from orchestrator.redaction import remember

SOON = RetryPolicy(max_attempts=2, backoff=0.1, jitter=0)
BUSINESS = {"attempts": 99, "business": True}
THREADS = "threads"
SECRET = "hunter2-hunter2"


def one_time(ctx: StepContext) -> str:
    """A password that is thrown once."""

    def throw() -> str:
        witness.present().note(ctx, "thrown")
        return uuid4().hex

    value = ctx.side_effect("otp", throw)
    witness.present().note(ctx, value)
    return value


@activity
def otp(ctx: StepContext, gate: str | None = None) -> str:
    """Throws a password; the first attempt waits at a gate with it, or fails."""
    value = one_time(ctx)
    if ctx.attempt == 1 and not ctx.undo:
        if gate is None:
            raise TransientError("as told")
        witness.present().pass_gate(f"{ctx.execution_id}.{gate}")
    return value


@activity(transactional=True)
def otp_in_transaction(ctx: StepContext) -> str:
    """The same; the first attempt's transaction is rolled back."""
    value = one_time(ctx)
    if ctx.attempt == 1:
        raise TransientError("as told")
    return value


@activity
def talk(ctx: StepContext, count: int) -> None:
    """Says what an activity may say, in every way."""
    remember(SECRET)
    ctx.log("debug", "too low")
    ctx.log("info", "begun", password=SECRET, name="n", nul="a\0b", number=1.5, nothing=float("nan"))
    ctx.log.warning("100 %% of %s", SECRET)
    logging.getLogger("shop.talk").error("own logger", extra={"what": {"id": ctx.attempt}})
    logging.getLogger("orchestrator.guard").error("not the activity's")
    for number in range(count):
        ctx.log("info", f"line {number}")
    if ctx.attempt == 1:
        raise TransientError("as told")


@activity
async def talk_async(ctx: StepContext) -> None:
    """The same on the event loop."""
    for number in range(3):
        ctx.log("info", f"line {number}")
        await asyncio.sleep(0)
        logging.getLogger("shop.talk").warning("aside %s", number)


@activity(heartbeat_timeout=2)
def beat_on(ctx: StepContext, seconds: float) -> int:
    """Says that it goes on until it is done."""
    witness.present().note(ctx)
    begun = time.monotonic()
    while (done := time.monotonic() - begun) < seconds:
        ctx.heartbeat({"seconds": int(done) + 1})
        time.sleep(0.05)
    return ctx.attempt


@activity
def falls_silent(ctx: StepContext) -> int:
    """Is heard once, and then waits at a gate in the first attempt."""
    ctx.heartbeat({"rows": 7})
    if ctx.attempt == 1:
        wait(ctx)
    return ctx.attempt


def wait(ctx: StepContext, gate: str = "gate") -> None:
    """Wait at a gate; what ends that is noted, and so is the cleaning up."""
    seen = witness.present()
    seen.note(ctx)
    try:
        seen.pass_gate(f"{ctx.execution_id}.{gate}")
    except AttemptInterrupted as interruption:
        seen.note(ctx, type(interruption).__name__)
        raise
    finally:
        seen.note(ctx, "cleaned up")


@activity
def wait_at_gate(ctx: StepContext) -> str:
    """May be interrupted there."""
    wait(ctx)
    return "passed"


@activity
async def wait_async(ctx: StepContext) -> None:
    """The same on the event loop; cleaning up takes a while there."""
    seen = witness.present()
    seen.note(ctx)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.2)
        seen.note(ctx, "cleaned up")


@activity
def beat_in_thread(ctx: StepContext) -> None:
    """Only what it calls itself can interrupt it."""
    seen = witness.present()
    seen.note(ctx)
    ctx.log("debug", "below the level of Python's loggers")
    try:
        while True:
            ctx.heartbeat()
            time.sleep(0.05)
    except AttemptInterrupted as interruption:
        seen.note(ctx, type(interruption).__name__)
        raise


@activity(timeout=1)
def hang(ctx: StepContext) -> int:
    """Hears no signal in the first attempt."""
    witness.present().note(ctx)
    if ctx.attempt == 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGURG})
        time.sleep(300)
    return ctx.attempt


thrown = workflow("thrown", step("otp", otp, {"gate": "{{ input.gate }}"}), retry=SOON)

thrown_in_transaction = workflow("thrown-in-transaction", step("otp", otp_in_transaction), retry=SOON)

thrown_twice = workflow(
    "thrown-twice",
    step("otp", otp, compensation=compensation(otp)),
    step("fails", fail, BUSINESS, retry=1),
    retry=SOON,
)

talking = workflow("talking", step("talk", talk, {"count": "{{ input.count }}"}), retry=SOON)

talking_async = workflow("talking-async", step("talk", talk_async))

beating = workflow("beating", step("work", beat_on, {"seconds": 7}), retry=1)

falling_silent = workflow("falling-silent", step("work", falls_silent, heartbeat_timeout="1s"), retry=SOON)

waiting = workflow("waiting", step("work", wait_at_gate, retry=SOON), step("never", echo))

waiting_async = workflow("waiting-async", step("work", wait_async))

waiting_undone = workflow("waiting-undone", step("work", wait_at_gate, compensation=compensation(echo)))

waiting_in_thread = workflow("waiting-in-thread", step("work", beat_in_thread, queue=THREADS))

wanted_all_the_same = workflow(
    "wanted-all-the-same", parallel(step("work", wait_at_gate), step("fails", fail, BUSINESS))
)

losing = workflow(
    "losing",
    parallel(step("quick", hold, {"gate": "refusal"}), step("work", wait_at_gate)),
    step("winner", echo, join="any"),
)

hanging = workflow("hanging", step("work", hang), retry=SOON)
