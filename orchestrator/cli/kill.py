"""Killing a worker that is known to hold claims: frozen first, looked at, and killed only with something in hand."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.embedded import Process
from orchestrator.ledger import figures
from orchestrator.ledger.figures import Held

#: Seconds in which statements that were under way when the worker froze come to their end.
SETTLE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Killed:
    """A worker that was killed with claims in its hands."""

    worker: str
    boot_id: str
    pid: int
    #: What it held when it died.
    held: tuple[Held, ...]


def kill_holder(connection: Connection, process: Process) -> Killed | None:
    """SIGKILL a worker's main process, if it holds claims; its children die with it.

    Returns:
        None when it held nothing, and goes on as if nothing had been.
    """
    node = figures.node(connection, process.pid)
    if node is None:
        return None
    frozen = _freeze(process.pid)
    try:
        held = figures.held(connection, node.boot_id)
        if held:
            # A settle may have been on its way to the server. What is still held after that is never let go.
            clock.pause(SETTLE)
            held &= figures.held(connection, node.boot_id)
        if not held:
            return None
        process.signal(signal.SIGKILL)
        process.wait(SETTLE * 50)
        return Killed(worker=process.name, boot_id=node.boot_id, pid=process.pid, held=tuple(sorted(held)))
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _freeze(pid: int) -> list[int]:
    """Stop a process and then, as it starts no more of them, all that it has started."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    frozen = [pid]
    with suppress(FileNotFoundError):
        for tasks in Path(f"/proc/{pid}/task").iterdir():
            for child in (tasks / "children").read_text().split():
                frozen += _freeze(int(child))
    return frozen
