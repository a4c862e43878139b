"""task: a Celery task of the application's own, called by name.

send:
  task: {task: shop.tasks.send_invoice}
  input: {order_id: "{{ input.order_id }}"}

It gets a message of its own, so that its name, its queue, its acks_late, its time limits and its hooks are what they
are elsewhere, and it may retry itself. Its parameters are the step's input, by name.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from orchestrator.kinds.kind import Decision, Plain, Situation, Spec, failure, read
from orchestrator.model.definition import Step


class TaskSpec(Spec):
    """Which task."""

    #: The name that Celery knows it by.
    task: str = Field(min_length=1, max_length=255)


class CalledTask(Plain):
    """Its output is what the task returns."""

    reaches_out: ClassVar[bool] = True
    makes_attempts: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        read(TaskSpec, step)

    def decide(self, situation: Situation) -> Decision:
        """Its own message calls it (runtime/task_steps.py); no other claims it."""
        return failure("NoSegment", f"{situation.path} is a task and is called by a message of its own", "system")
