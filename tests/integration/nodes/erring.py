"""Workflows whose steps fail in every way, for the tests of tables of errors, policies and steps that kill."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from celery import shared_task

from nodes import witness
from nodes.activities import echo, fail, hold
from orchestrator import (
    BusinessError,
    CancelledFailure,
    DeadlineError,
    ErrorRule,
    RetryPolicy,
    StepContext,
    SystemFailure,
    TransientError,
    activity,
    block,
    compensation,
    each,
    handle,
    machine,
    step,
    subworkflow,
    task,
    transition,
    workflow,
)


class Overload(RuntimeError):
    """What a library raises that knows nothing of workflows: the system's error, unless a table says otherwise."""


class Flood(Overload):
    """One of its kinds."""


class InvalidInput(Exception):
    """Another library's word for something that passes."""


#: By name, for the steps' inputs.
ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        BusinessError,
        CancelledFailure,
        DeadlineError,
        Flood,
        InvalidInput,
        Overload,
        SystemFailure,
        TransientError,
        ValueError,
    )
}
#: A few attempts, in a row: more of them than one shows that an error was retried.
SOON = RetryPolicy(max_attempts=3, backoff=0.05, jitter=0)
TABLE = [
    ErrorRule(error=Overload, contains="busy", category="transient", name="Busy"),
    ErrorRule(error="nodes.erring.Overload", category="business", name="Refusal"),
    ErrorRule(error="AttemptTimedOut", category="business", name="TooSlow"),
]


@activity
def err(ctx: StepContext, error: str, message: str = "no") -> None:
    """Raise an error at every attempt."""
    witness.present().note(ctx)
    raise ERRORS[error](message)


@activity(transactional=True)
def err_in_transaction(ctx: StepContext, error: str) -> None:
    """The same in the ledger's transaction."""
    raise ERRORS[error]("no")


@activity
def act(ctx: StepContext, plan: list[str]) -> int:
    """What the plan has for the attempt, the last for all that follow: die, err or go on; its number."""
    witness.present().note(ctx)
    what = plan[min(ctx.attempt, len(plan)) - 1]
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "err":
        raise TransientError("as planned")
    return ctx.attempt


#: What lets nobody catch it that catches exceptions.
LEAVING: dict[str, type[BaseException]] = {"SystemExit": SystemExit, "CancelledError": asyncio.CancelledError}


@activity
def leave(ctx: StepContext, error: str) -> None:
    """End as a library may that was made for a command line, or for one loop."""
    witness.present().note(ctx)
    raise LEAVING[error]("no more")


@activity(transactional=True)
def leave_in_transaction(ctx: StepContext) -> None:
    """The same in the ledger's transaction."""
    sys.exit("no more")


@activity
async def leave_loop(ctx: StepContext, error: str) -> None:
    """The same as a coroutine."""
    raise LEAVING[error]("no more")


@shared_task(name="erring.leave_task")
def leave_task() -> None:
    """The same as a task of the application's own."""
    sys.exit("no more")


@shared_task(name="erring.flood")
def flood() -> None:
    """A task of the application's own."""
    raise Flood("no")


# A table, wherever something fails.

FLOOD = {"error": "Flood"}

tabled = workflow(
    "tabled",
    step("work", err, FLOOD, retry=SOON, catch=handle(step("handler", echo), errors=["Refusal"])),
    errors=TABLE,
)
tabled_busy = workflow(
    "tabled-busy", step("work", err, {"error": "Flood", "message": "busy now"}, retry=SOON), errors=TABLE
)
tabled_namesake = workflow(
    "tabled-namesake",
    step("work", err, {"error": "InvalidInput"}, retry=SOON),
    errors=[ErrorRule(error="nodes.erring.InvalidInput", category="transient")],
)
tabled_transaction = workflow("tabled-transaction", step("work", err_in_transaction, FLOOD, retry=SOON), errors=TABLE)
tabled_task = workflow("tabled-task", task("work", flood, retry=SOON), errors=TABLE)
tabled_slow = workflow("tabled-slow", step("work", hold, timeout=0.5, retry=SOON, queue="threads"), errors=TABLE)
tabled_compensation = workflow(
    "tabled-compensation",
    step("first", echo, compensation=compensation(err, FLOOD, retry=SOON)),
    step("second", fail, {"attempts": 99, "business": True}),
    errors=TABLE,
)
tabled_loop = workflow(
    "tabled-loop",
    each("loop", [1], step("work", err, FLOOD, retry=SOON), catch=handle(step("handler", echo), errors=["Refusal"])),
    errors=TABLE,
)
tabled_child = workflow("tabled-child", step("work", err, FLOOD, retry=SOON), errors=TABLE)
tabled_parent = workflow(
    "tabled-parent",
    subworkflow("child", tabled_child, catch=handle(step("handler", echo), errors=["Refusal"])),
)
tabled_machine = machine(
    "tabled-machine",
    initial="here",
    states=["here", "there"],
    final=["there"],
    transitions=[
        transition("here", "there", event="GO", steps=[step("work", err, FLOOD, retry=SOON)]),
        transition("here", "there", event="FLY"),
    ],
    errors=TABLE,
)

# Policies. Which error is raised, and with what message, is the input's.

_INPUT = {"error": "{{ input.error }}", "message": "{{ input.message }}"}


def _tried(name: str, **policy: Any) -> Any:
    return workflow(name, step("work", err, _INPUT, retry=SOON.model_copy(update=policy)), errors=TABLE[:1])


default_policy = _tried("default-policy")
retry_on = _tried("retry-on", retry_on=("timeout", "Busy"))
never_on = _tried("never-on", never_on=("timeout", "Busy"))
#: The next attempt would be an hour later than the budget allows.
short_budget = _tried("short-budget", max_attempts=99, backoff=3_600.0, max_delay=7_200.0, budget=60.0)
long_budget = _tried("long-budget", budget=3_600.0)
#: Only its budget ends it in a test's time.
spent_budget = _tried("spent-budget", max_attempts=10_000, backoff=0.3, factor=1.0, budget=2.0)
#: An hour would follow the second attempt, if anything did.
last_attempt = _tried("last-attempt", max_attempts=2, backoff=0.1, factor=36_000.0, max_delay=7_200.0)

# Steps that kill their workers.

killer = workflow(
    "killer",
    step(
        "work",
        act,
        {"plan": "{{ input.plan }}"},
        retry=SOON,
        catch=handle(step("handler", echo), errors=["WorkerLost"]),
    ),
)
killer_saga = workflow(
    "killer-saga",
    step("first", echo, compensation=echo),
    step("work", act, {"plan": ["die"]}, on_error="retry"),
)
killer_compensation = workflow(
    "killer-compensation",
    step("zeroth", echo, compensation=echo),
    step("first", echo, compensation=compensation(act, {"plan": ["die"]})),
    step("second", fail, {"attempts": 99, "business": True}),
)
killer_block = workflow(
    "killer-block",
    block("around", step("work", act, {"plan": ["die"]}), catch=handle(step("handler", echo), errors=["system"])),
)
#: For steps that tests claim themselves.
unconsumed = workflow("unconsumed", step("first", echo, compensation=echo), step("work", echo, queue="nobody"))

# Steps whose failure the ledger will not have, as a test's trigger says: by their path.

ONCE = RetryPolicy(max_attempts=1)
hard_step = workflow("hard-step", step("hard", err, FLOOD, retry=ONCE))
hard_thread = workflow("hard-thread", step("hard", err, FLOOD, retry=ONCE, queue="threads"))
hard_task = workflow("hard-task", task("hard", flood, retry=ONCE))
hard_undo = workflow(
    "hard-undo",
    step("hard", echo, compensation=compensation(err, FLOOD, retry=ONCE)),
    step("fails", err, FLOOD, retry=ONCE),
)

# Steps that end as if the process did.

leaves = workflow("leaves", step("work", leave, {"error": "{{ input.error }}"}, retry=ONCE))
leaves_thread = workflow(
    "leaves-thread", step("work", leave, {"error": "{{ input.error }}"}, retry=ONCE, queue="threads")
)
leaves_transaction = workflow("leaves-transaction", step("work", leave_in_transaction, retry=ONCE))
leaves_loop = workflow("leaves-loop", step("work", leave_loop, {"error": "{{ input.error }}"}, retry=ONCE))
leaves_not = workflow("leaves-not", step("work", act, {"plan": ["go on"]}), output="{{ steps.work.output }}")
leaves_task = workflow("leaves-task", task("work", leave_task, retry=ONCE))
