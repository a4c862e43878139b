"""The only place that reads this machine's clocks. Durable times are the database's; these measure spans.

The one exception is `now`, for the expressions and activities of authors, whose results are recorded.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def elapsed() -> float:
    """Seconds on a clock that only goes forward; for budgets and waits within one process."""
    return time.monotonic()


def now() -> datetime:
    """This machine's date and time, in UTC."""
    return datetime.now(UTC)


def pause(seconds: float) -> None:
    """Sleep this many seconds."""
    time.sleep(seconds)
