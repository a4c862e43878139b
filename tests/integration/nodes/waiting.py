"""Polling with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Generous, so that a busy machine fails no test; in seconds.
PATIENCE = 30.0


def eventually(ask: Callable[[], T | None], what: str, within: float = PATIENCE) -> T:
    """The first truthy answer; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)
    return answer
