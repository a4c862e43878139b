"""Workflows for whoever operates: they fail once, wait, and can be undone."""

from __future__ import annotations

from nodes import witness
from nodes.activities import echo, fail, hold
from nodes.shapes import BUSINESS
from orchestrator import (
    BusinessError,
    RetryPolicy,
    StepContext,
    activity,
    block,
    case,
    choice,
    compensation,
    delay,
    each,
    handle,
    parallel,
    repeat,
    step,
    subworkflow,
    wait,
    workflow,
)

ONCE = {"attempts": 1, "business": True}


@activity
def fail_on(ctx: StepContext, bad: bool, value: int) -> int:
    """Fail in the first attempt, if told."""
    witness.present().note(ctx)
    if bad and ctx.attempt == 1:
        raise BusinessError("as told")
    return value


fails_once = workflow(
    "fails-once",
    step("before", echo, {"value": "{{ input.n }}"}),
    step("fails", fail, ONCE),
    step("behind", echo, {"value": ["{{ steps.before.output }}", "{{ steps.fails.output }}", "{{ input.n }}"]}),
)

fails_beside = workflow(
    "fails-beside",
    parallel(
        step("held", hold, {"value": "held"}),
        step("fails", fail, ONCE | {"gate": "refusal"}),
        delay("long", "1h"),
    ),
    step("behind", echo, {"value": "{{ steps.held.output }}"}),
    timeout="2h",
)

fails_in_loop = workflow(
    "fails-in-loop",
    each(
        "loop",
        [1, 2, 3, 4, 5, 6],
        step("one", echo, {"value": "{{ item }}"}),
        step("two", fail_on, {"bad": "{{ item == 2 }}", "value": "{{ steps.one.output * 10 }}"}),
        concurrency=2,
    ),
    step("behind", echo, {"value": "{{ steps.loop.output }}"}),
)

fails_in_repeat = workflow(
    "fails-in-repeat",
    repeat(
        "again",
        step("one", fail_on, {"bad": "{{ index == 1 }}", "value": "{{ index }}"}),
        until="{{ steps.one.output >= 2 }}",
    ),
)

fails_in_block = workflow(
    "fails-in-block",
    block("box", step("inside", echo, {"value": 1}), step("fails", fail, ONCE), step("last", echo, {"value": 3})),
    step("behind", echo, {"value": "{{ steps.box.output }}"}),
)

caught_before = workflow(
    "caught-before",
    step("caught", fail, BUSINESS, catch=[handle(step("rescue", echo, {"value": "rescued"}))]),
    choice("route", case("{{ input.left }}", step("left", echo)), default=[step("right", echo)]),
    step("fails", fail, ONCE),
    step("behind", echo, {"value": "{{ steps.rescue.output }}"}),
)

retried_by_itself = workflow(
    "retried-by-itself",
    step("before", echo),
    step("fails", fail, {"attempts": "{{ input.attempts }}"}, retry=RetryPolicy(max_attempts=1)),
    execution_retry=RetryPolicy(max_attempts=3, backoff=0.1, jitter=0),
)

parent_of_retried = workflow(
    "parent-of-retried", subworkflow("child", retried_by_itself, {"attempts": 1}), step("behind", echo, {"value": 1})
)

parent_of_once = workflow("parent-of-once", subworkflow("child", fails_once, {"n": 5}), step("behind", echo))

parent_held = workflow("parent-held", subworkflow("child", "held-child", {}), step("behind", echo, {"value": "done"}))

two_held = workflow("two-held", step("first", hold), step("second", hold, {"gate": "refusal", "value": "end"}))

three = workflow("three", step("first", hold), step("second", echo), step("third", echo, {"value": "end"}), fuse=False)

fans_out = workflow(
    "fans-out",
    step("first", hold),
    parallel(step("left", echo, {"value": 1}), step("right", echo, {"value": 2})),
    step("behind", echo, {"value": "joined"}),
)

retries = workflow(
    "retries",
    step("first", fail, {"attempts": 1, "gate": "refusal"}, retry=RetryPolicy(max_attempts=2, backoff=0.05, jitter=0)),
)

refuses = workflow("refuses", step("first", fail, BUSINESS | {"gate": "refusal"}), step("second", echo))

waits = workflow(
    "waits",
    step("first", echo, {"value": 1}),
    wait("approved", "approval"),
    step("behind", echo, {"value": "{{ steps.approved.output }}"}),
)

undone_on_demand = workflow(
    "undone-on-demand",
    step("one", echo, {"value": 1}, compensation=compensation(echo)),
    step("two", echo, {"value": 2}, compensation=compensation(fail, {"attempts": "{{ input.bad }}", "business": True})),
    step("three", echo, {"value": 3}, compensation=compensation(echo)),
)

unbegun = workflow(
    "unbegun",
    step("before", echo),
    step(
        "nobody", echo, queue="nobody", start_timeout=1, retry=5, catch=[handle(step("late", echo, {"value": "late"}))]
    ),
)

stops_undoing = workflow(
    "stops-undoing",
    step("one", echo, {"value": 1}, compensation=compensation(echo)),
    step("two", echo, {"value": 2}, compensation=compensation(fail, {"attempts": "{{ input.bad }}", "business": True})),
    on_compensation_failure="stop",
)

leaves_it = workflow(
    "leaves-it",
    step("one", echo, {"value": 1}, compensation=compensation(echo)),
    step("two", hold),
    on_cancel="stop",
    on_timeout="stop",
)

diamond = workflow(
    "diamond-to-fork",
    step("a", echo, {"value": "a"}),
    parallel(
        step("b", echo, {"value": "b"}),
        each("c", [1, 2, 3], step("item", echo, {"value": "{{ item + input.n }}"})),
    ),
    step("d", echo, {"value": ["{{ steps.b.output }}", "{{ steps.c.output }}", "{{ input.n }}"]}),
    step("e", echo, {"value": "{{ steps.d.output }}"}),
)
