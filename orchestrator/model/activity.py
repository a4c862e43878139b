"""How a function says which activity it is, so that a definition may name an activity by its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.errors import ConfigurationError

#: Attribute of registered functions; it holds the activity's name.
MARK = "__activity_name__"


def mark(function: Callable[..., Any], name: str) -> None:
    """Write the activity's name on its function; ConfigurationError when the callable takes no attributes."""
    try:
        setattr(function, MARK, name)
    except AttributeError:
        raise ConfigurationError(f"activity {name}: {function!r} is no plain function; wrap it in one") from None


def name_of(activity: Callable[..., Any] | str) -> str:
    """The activity's name, given its name or its function; ConfigurationError for a function without `@activity`."""
    if isinstance(activity, str):
        return activity
    name = getattr(activity, MARK, None)
    if not isinstance(name, str):
        shown = getattr(activity, "__qualname__", repr(activity))
        raise ConfigurationError(f"{shown} is no activity; decorate it with @activity, or give an activity's name")
    return name
