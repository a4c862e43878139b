"""Executions that get stuck or go wrong in every way, for the tests of explanations and incidents."""

from __future__ import annotations

from nodes.activities import echo, fail, hold
from orchestrator import RetryPolicy, compensation, delay, each, parallel, step, subworkflow, wait, workflow

BUSINESS = {"attempts": 99, "business": True}
LATER = RetryPolicy(max_attempts=3, backoff=3600, max_delay=3600, jitter=0)
ONCE = RetryPolicy(max_attempts=1)

behind_a_signal = workflow(
    "behind-a-signal",
    parallel(wait("word", "go"), step("quick", echo)),
    step("behind", echo, {"value": 1}),
)
hours = workflow("hours", delay("pause", "2h"), step("behind", echo, {"value": 1}), timeout=0)
tomorrow = workflow("tomorrow", step("work", fail, {"attempts": 1}), retry=LATER)
counted_loop = workflow("counted-loop", each("loop", [0, 1, 2], step("inner", hold, {"gate": "gate{{ index }}"})))
grandparent = workflow("grandparent", subworkflow("child", "middle-child"))
middle_child = workflow("middle-child", subworkflow("child", "approval"))
lonely = workflow("lonely", step("work", echo, {"value": 1}), queue="lonely")
single = workflow("single", step("work", hold), queue="single")
victim = workflow("victim", step("work", hold, {"attempts": 1, "value": 7}), queue="victim")
slow_undo = workflow(
    "slow-undo",
    step("one", echo, compensation=compensation(hold)),
    step("fails", fail, BUSINESS),
)

# Incidents.

spent = workflow("spent", step("work", fail, {"attempts": 99}), retry=ONCE)
declined = workflow("declined", step("work", fail, BUSINESS))
spent_too = workflow("tomorrow-never", step("work", fail, {"attempts": 99}), retry=ONCE)


def _stuck(name: str) -> object:
    return workflow(
        name,
        step("one", echo, compensation=compensation(fail, {"attempts": 99}, retry=ONCE)),
        step("fails", fail, BUSINESS),
    )


stuck_undo, stuck_explained = _stuck("stuck-undo"), _stuck("stuck-explained")
forsaken = workflow("forsaken", step("work", echo), queue="forsaken")
