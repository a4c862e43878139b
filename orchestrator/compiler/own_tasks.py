"""Steps that are Celery tasks of the application's own: which task, which queue, which retries. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.kinds.kinds import TASK
from orchestrator.model.definition import Compensation, Definition, Step
from orchestrator.model.policy import RetryPolicy

#: Gives the queue that the application itself sends a task to, by the task's name.
Route = Callable[[str], str]

_DEFAULT_RETRY = RetryPolicy()
#: A task retries itself, as far as it wants to; what it then raises is final unless the step says otherwise.
_ONCE = RetryPolicy(max_attempts=1)


def task_of(step: Step) -> str | None:
    """The name of the task that a step is; None for all other steps."""
    return str(step.spec["task"]) if step.kind == TASK else None


def default_retry(call: Step | Compensation, definition: Definition) -> RetryPolicy:
    """The retry policy of what names none itself."""
    if isinstance(call, Step) and call.kind == TASK:
        return _ONCE
    return definition.retry or _DEFAULT_RETRY


@dataclass(frozen=True, kw_only=True, slots=True)
class Queues:
    """Which queue a step's message goes to."""

    #: Of steps that name none.
    default: str
    #: None where no application is known: then tasks go by the default, too.
    route: Route | None

    def of(self, step: Step) -> str:
        """A step's queue: the one that it names, a task's own, or the default."""
        task = task_of(step)
        if task is None or self.route is None:
            return step.queue or self.default
        return step.queue or self.route(task)

    def of_undo(self, step: Step) -> str:
        """The queue of a step's compensation, which is an activity whatever the step is."""
        return self.default if step.kind == TASK else self.of(step)
