"""The only place that reads this machine's clocks. Durable times are the database's; these measure spans."""

from __future__ import annotations

import time


def elapsed() -> float:
    """Seconds on a clock that only goes forward; for budgets and waits within one process."""
    return time.monotonic()


def pause(seconds: float) -> None:
    """Sleep this many seconds."""
    time.sleep(seconds)
