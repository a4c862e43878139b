"""Tasks that were there before any workflow, as their authors wrote them, and workflows that call them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore, Reject

from nodes import witness
from nodes.activities import echo, fail
from orchestrator import (
    BusinessError,
    RetryPolicy,
    compensation,
    current_step,
    each,
    handle,
    parallel,
    step,
    task,
    workflow,
)

LEGACY, STRANGER = "legacy", "stranger"
SOON = RetryPolicy(max_attempts=2, backoff=0.1, jitter=0)


class Late(Exception):
    """The outside world has not answered."""


def note() -> None:
    """Leave a trace: as a step's, or as that of a plain call."""
    seen, ctx = witness.present(), current_step()
    if ctx is None:
        witness.append(seen.folder / "plain", str(os.getpid()))
    else:
        seen.note(ctx)


@shared_task(name="legacy.add", queue=LEGACY)
def add(a: int, b: int = 1) -> int:
    """Their sum."""
    note()
    return a + b


@shared_task(name="legacy.flaky", bind=True, max_retries=3, queue=LEGACY)
def flaky(self: Any, failures: int, countdown: float = 0.1) -> dict[str, Any]:
    """Retries itself."""
    note()
    if self.request.retries < failures:
        raise self.retry(countdown=countdown, exc=Late("not yet"))
    return {"retries": self.request.retries, "id": self.request.id}


@shared_task(name="legacy.auto", bind=True, autoretry_for=(Late,), max_retries=3, default_retry_delay=0.1, queue=LEGACY)
def auto(self: Any, failures: int) -> int:
    """Is retried by Celery."""
    note()
    if self.request.retries < failures:
        raise Late("not yet")
    return int(self.request.retries)


@shared_task(name="legacy.counting_down", bind=True, max_retries=None, queue=LEGACY)
def counting_down(self: Any, left: int, done: list[int]) -> list[int]:
    """Retries itself with other arguments."""
    note()
    if left:
        raise self.retry(kwargs={"left": left - 1, "done": [*done, left]}, countdown=0)
    return done


@shared_task(name="legacy.refuse", queue=LEGACY)
def refuse(business: bool = False) -> None:
    """Fails."""
    note()
    raise BusinessError("as told") if business else ValueError("as told")


def _hold(value: int) -> int:
    note()
    ctx = current_step()
    if ctx is not None and ctx.attempt == 1:
        witness.present().pass_gate(f"{ctx.execution_id}.gate")
    return value


@shared_task(name="legacy.hold", queue=LEGACY)
def hold(value: int = 7) -> int:
    """Waits at a gate, in the first attempt; its message is acknowledged before."""
    return _hold(value)


@shared_task(name="legacy.hold_late", queue=LEGACY, acks_late=True, reject_on_worker_lost=True, time_limit=300)
def hold_late(value: int = 7) -> int:
    """The same; its message is acknowledged after."""
    return _hold(value)


@shared_task(name="legacy.anything", queue=LEGACY, autoretry_for=(Exception,))
def anything(*args: Any, **kwargs: Any) -> int:
    """Can be called with whatever there is."""
    note()
    return len(args) + len(kwargs)


@shared_task(name="legacy.leave", queue=LEGACY)
def leave(how: str) -> None:
    """Neither returns nor fails."""
    note()
    ctx = current_step()
    if how == "ignore":
        raise Ignore("none of your business")
    if how == "reject":
        raise Reject("not for me", requeue=False)
    if how == "put back" and ctx is not None and ctx.attempt == 1:
        raise Reject("not now", requeue=True)


@shared_task(name="legacy.soft", queue=LEGACY, soft_time_limit=1)
def soft() -> None:
    """Takes too long for its soft limit."""
    note()
    time.sleep(30)


@shared_task(name="legacy.hard", queue=LEGACY, time_limit=2)
def hard() -> None:
    """Takes too long for its hard limit."""
    note()
    time.sleep(30)


@shared_task(name="legacy.deaf", queue=LEGACY, time_limit=2)
def deaf() -> None:
    """The same, and no signal but the last can interrupt it."""
    note()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGUSR1})
    time.sleep(30)


@shared_task(name="legacy.result", queue=LEGACY)
def result() -> object:
    """Returns what is no JSON."""
    return object()


after_it = workflow(
    "after-it",
    step("before", echo, {"value": 20}),
    task("called", "legacy.add", {"a": "{{ steps.before.output }}", "b": "{{ input.b }}"}),
    step("behind", echo, {"value": "{{ steps.called.output }}"}),
)

alone = workflow("alone", task("called", add, {"a": "{{ input.a }}"}))

threaded_tasks = workflow(
    "threaded-tasks",
    task("called", flaky, {"failures": 1}, queue="threads"),
    task("late", add, {"a": 1}, queue="threads"),
    output="{{ steps.called.output.retries }}",
)

retried = workflow(
    "retried",
    task("called", flaky, {"failures": "{{ input.failures }}"}),
    step("behind", echo, {"value": "{{ steps.called.output }}"}),
)

retried_anew = workflow("retried-anew", task("called", flaky, {"failures": 5}, retry=SOON))

auto_retried = workflow(
    "auto-retried", task("called", auto, {"failures": 2}), step("behind", echo, {"value": "{{ steps.called.output }}"})
)

retried_otherwise = workflow("retried-otherwise", task("called", counting_down, {"left": 3, "done": []}))

refused_by_task = workflow("refused-by-task", task("called", refuse), step("behind", echo))

caught_from_task = workflow(
    "caught-from-task",
    task(
        "called",
        refuse,
        {"business": True},
        retry=SOON,
        catch=[handle(step("rescue", echo, {"value": "{{ steps.called.error.category }}"}))],
    ),
)

held_task = workflow("held-task", task("called", hold), step("behind", echo, {"value": "{{ steps.called.output }}"}))

held_late_task = workflow("held-late-task", task("called", hold_late))

around = workflow(
    "around",
    step("begin", echo, {"value": 1}),
    parallel(
        task("one", add, {"a": "{{ steps.begin.output }}"}),
        step("two", echo, {"value": 2}),
        task("three", add, {"a": 2}),
    ),
    task("join", add, {"a": "{{ steps.one.output }}", "b": "{{ steps.three.output }}"}),
    task("chained", add, {"a": "{{ steps.join.output }}", "b": "{{ steps.two.output }}"}),
    step("end", echo, {"value": "{{ steps.chained.output }}"}),
)

looped = workflow(
    "looped",
    each(
        "loop",
        "{{ input.items }}",
        task("first", add, {"a": "{{ item }}", "b": 10}),
        step("between", echo, {"value": "{{ steps.first.output }}"}),
        task("last", add, {"a": "{{ steps.between.output }}", "b": "{{ index }}"}),
        concurrency=3,
    ),
    step("behind", echo, {"value": "{{ steps.loop.output }}"}),
)

undone = workflow(
    "undone",
    task("called", add, {"a": 1}, compensation=compensation(echo, {"value": "{{ undo.output }}"})),
    task("fails", refuse, {"business": True}),
)

strange = workflow("strange", task("called", anything, {"value": 1}, queue=STRANGER))

unknown = workflow("unknown", task("called", "legacy.nobody_knows", {"value": 1}, queue=LEGACY))

misfit = workflow("misfit", task("called", add, {"a": 1, "c": 3}))

leaving = workflow("leaving", task("called", leave, {"how": "{{ input.how }}"}))

too_slow = workflow("too-slow", task("called", soft))

much_too_slow = workflow("much-too-slow", task("called", hard))

deaf_and_slow = workflow("deaf-and-slow", task("called", deaf), step("behind", echo))

timed_by_step = workflow("timed-by-step", task("called", hold, timeout=0.5))

no_json = workflow("no-json", task("called", result))

#: A branch that fails while the task waits for its next call.
overtaken_retry = workflow(
    "overtaken-retry",
    parallel(
        task("called", flaky, {"failures": 1, "countdown": 3600}),
        step("fails", fail, {"attempts": 99, "business": True, "gate": "refusal"}),
    ),
)

#: Names as long as they may be.
long_task = workflow(
    "long-task",
    each(
        "o" * 100,
        [1],
        each("i" * 100, [1], task("t" * 100, f"legacy.{'n' * 248}", {"value": "x" * 10_000}, queue="q" * 100)),
    ),
)
