"""A definition whose activity workers know only from the day on that they load this module."""

from __future__ import annotations

from orchestrator import RetryPolicy, activity, step, workflow


@activity
def come_late() -> str:
    """Known at last."""
    return "here"


latecomer = workflow("latecomer", step("work", come_late), queue="latecomer", retry=RetryPolicy(max_attempts=1))
