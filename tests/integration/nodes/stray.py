"""A definition whose activity only the process that starts it knows."""

from __future__ import annotations

from orchestrator import RetryPolicy, activity, step, workflow


@activity
def known_to_the_starter_only() -> None:
    """Workers do not load this module."""


stray = workflow("stray", step("work", known_to_the_starter_only), retry=RetryPolicy(max_attempts=1))
