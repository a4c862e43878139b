"""What Python loads first in a process whose clock libfaketime moves.

With monotonic clocks left as they are, libfaketime 0.9.10 turns the time until which `time.sleep` waits into one that
the kernel refuses (EINVAL): it calls clock_nanosleep with an absolute time. A relative wait is left alone.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex, /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep
