"""The present step, for code that has no parameter for a StepContext: a Celery task that a workflow calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from orchestrator.activities.context import StepContext

_present: ContextVar[StepContext | None] = ContextVar("orchestrator_step", default=None)


def current_step() -> StepContext | None:
    """The step that this Celery task is called as; None in a task that no workflow has called, and in activities,
    which get theirs as a parameter."""
    return _present.get()


@contextmanager
def entered(context: StepContext) -> Iterator[None]:
    """Within the block, `current_step` gives this context."""
    token = _present.set(context)
    try:
        yield
    finally:
        _present.reset(token)
