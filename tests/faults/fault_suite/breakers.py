"""What traps do to the process that springs them; bound to the product's fault points by `arm`."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Callable

from fault_suite import outside
from orchestrator import fault_points

#: Where activities look for traps themselves.
IN_ACTIVITY = "activity"
#: Likewise, in one that nothing interrupts.
IN_WORK = "work"
#: The signal at which a process writes into its log where all of its threads are.
TELL = signal.SIGRTMIN + 5
#: Seconds for which the interpreter's lock is held.
GIL_HELD = 20
#: Bytes after which a process that nobody ended for its memory stops taking more.
MOST_MEMORY = 1 << 30


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _hold_gil() -> None:
    """A C function called without giving the lock away, as a badly written extension does."""
    ctypes.PyDLL(None).sleep(GIL_HELD)


def _take_memory() -> None:
    """Take memory until the kernel ends the process; its limit was set by who laid the trap."""
    taken = []
    for _ in range(MOST_MEMORY >> 20):
        taken.append(bytearray(os.urandom(1) * (1 << 20)))
        time.sleep(0.001)


_DEEDS: dict[str, Callable[[], None]] = {"kill": _kill, "stop": _stop, "gil": _hold_gil, "memory": _take_memory}


def strike(point: str, execution_id: str = "", path: str = "") -> None:
    """Spring the trap at a point, if one is laid."""
    deed = outside.present().spring(point)
    if deed is not None:
        _DEEDS[deed]()


def arm() -> None:
    """Have this process fall into traps at all points of the product, and tell where it is when it is asked to."""
    fault_points.reach = strike
    faulthandler.register(TELL, all_threads=True)
