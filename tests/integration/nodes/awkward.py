"""Workflows for commands at awkward moments: children that went back, races open again, failures in a pause."""

from __future__ import annotations

import time

from nodes import witness
from nodes.activities import echo, fail, hold
from nodes.shapes import BUSINESS
from orchestrator import (
    RetryPolicy,
    StepContext,
    activity,
    compensation,
    handle,
    parallel,
    sequence,
    step,
    subworkflow,
    wait,
    workflow,
)

ONCE = {"attempts": 1, "business": True}


@activity
def sleep_first(ctx: StepContext) -> str:
    """Take very long in the first attempt, until interrupted."""
    witness.present().note(ctx)
    if ctx.attempt == 1:
        time.sleep(600)
    return "done"


fails_while_paused = workflow(
    "fails-while-paused",
    parallel(step("left", fail, ONCE | {"gate": "refusal"}), step("right", hold)),
    step("joined", echo, {"value": "joined"}),
    step("last", echo, {"value": "{{ steps.joined.output }}"}),
)

child_that_cannot_go_back = workflow(
    "child-that-cannot-go-back", step("work", echo, {"value": 1}, compensation=compensation(fail, ONCE))
)
parent_that_cannot_go_back = workflow(
    "parent-that-cannot-go-back", subworkflow("child", child_that_cannot_go_back, {}), step("fails", fail, BUSINESS)
)

child_begun_again = workflow(
    "child-begun-again", step("work", hold, compensation=compensation(echo)), step("more", echo)
)
parent_left_behind = workflow(
    "parent-left-behind",
    step("work", echo, compensation=compensation(echo)),
    subworkflow("child", child_begun_again, {}, detached=True),
)
parent_begun_again = workflow(
    "parent-begun-again", subworkflow("child", child_begun_again, {}), step("fails", fail, BUSINESS)
)

busy_child = workflow("busy-child", step("first", hold), step("second", echo), fuse=False)
busy_parent = workflow("busy-parent", parallel(step("busy", hold), subworkflow("child", busy_child, {})))

failing_child = workflow("child-failing-once", step("before", echo), step("fails", fail, ONCE), step("after", echo))
parent_of_failing_child = workflow(
    "parent-of-child-failing-once", subworkflow("child", failing_child, {}), step("behind", echo, {"value": "end"})
)

tolerant_of_all = workflow(
    "tolerant-of-all",
    step("work", sleep_first, on_error="continue"),
    step("behind", echo, {"value": "{{ steps.work.output }}"}),
)
catches_all = workflow(
    "catches-all", step("work", sleep_first, catch=[handle(step("rescue", echo, {"value": "rescued"}))])
)

race_open_again = workflow(
    "race-open-again",
    parallel(
        sequence(
            parallel(step("a", echo), sequence(step("b1", hold), step("b2", echo)), wait("w", "never")),
            step("two", echo, join=2),
        ),
        step("fails", fail, ONCE | {"gate": "refusal"}),
    ),
    step("end", echo, {"value": "end"}),
)

retried_later = workflow(
    "retried-later",
    step("fails", fail, {"attempts": 1}, retry=RetryPolicy(max_attempts=1)),
    execution_retry=RetryPolicy(max_attempts=3, backoff=3600, max_delay=3600, jitter=0),
)

gives_up_waiting = workflow(
    "gives-up-waiting",
    parallel(subworkflow("child", retried_later, {}), step("quick", hold, {"gate": "refusal"})),
    step("winner", hold, join="any"),
)

undoing_child = workflow(
    "undoing-child", step("one", echo, {"value": 1}, compensation=compensation(echo)), step("two", hold)
)
undoing_parent = workflow("undoing-parent", subworkflow("child", undoing_child, {}))
