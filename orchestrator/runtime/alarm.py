"""Interrupting an attempt that takes too long, in the main thread of a worker process.

Elsewhere (a thread pool) no signal reaches the code, and the ledger's deadline sweep alone ends the attempt.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.errors import AttemptTimedOut

#: The signal comes again this often, in seconds, for code that swallowed it.
REPEAT = 1.0


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise AttemptTimedOut inside the block after this many seconds; None never does."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    armed = True

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        # The last signal may come when the block has ended: only an armed one speaks.
        if armed:
            raise AttemptTimedOut(f"the attempt took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT)
    try:
        try:
            yield
        finally:
            armed = False
    finally:
        # The last one may have come within the other `finally`.
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
