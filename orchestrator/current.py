"""The process's current orchestrator, so that a workflow can be started by itself: `order_fulfilment.start(...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.errors import ConfigurationError


class Starter(Protocol):
    """What can start an execution."""

    @property
    def start(self) -> Callable[..., Any]:
        """Start an execution of the definition of a name."""


class _Current:
    starter: Starter | None = None


def set_current(starter: Starter | None) -> None:
    """Make this the process's orchestrator; the last one set counts. None takes it away."""
    _Current.starter = starter


def get_current() -> Starter:
    """The process's orchestrator; ConfigurationError when none was created."""
    if _Current.starter is None:
        raise ConfigurationError("no orchestrator in this process: create Orchestrator() first")
    return _Current.starter
