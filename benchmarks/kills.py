"""E and F: how soon a step is attempted again when the process that works on it is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, Scale
from benchmarks.stack import Stack
from orchestrator import ExecutionHandle
from orchestrator.clock import elapsed
from orchestrator.model.state import ExecutionStatus

#: Seconds until the step of a killed pool child, and of a killed whole worker, is attempted again.
CHILD_BOUND, WORKER_BOUND = 0.5, 15.0
_WORKERS = ("one", "two")


class Lingering:
    """A step that waits to be killed in its first attempt, and tells in a file who begins which attempt when."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._log: Path = stack.folder / "attempts"
        self._handle: ExecutionHandle = stack.orchestrator.start("linger", {"log": str(self._log)})

    def attempt(self, number: int) -> dict[str, Any]:
        """Who began an attempt and when, once it has begun."""
        found: list[dict[str, Any]] = []

        def begun() -> bool:
            lines = self._log.read_text().splitlines() if self._log.exists() else []
            notes = [json.loads(line) for line in lines]
            found[:] = [note for note in notes if (note["execution"], note["attempt"]) == (self._handle.id, number)]
            return bool(found)

        self._stack.until(begun, f"attempt {number} of execution {self._handle.id}")
        return found[0]

    def delay(self, kill: Callable[[int], object]) -> float:
        """Seconds from the kill of the process that works on the step to the beginning of the next attempt."""
        pid = self.attempt(1)["pid"]
        killed = elapsed()
        kill(pid)
        seconds: float = self.attempt(2)["at"] - killed
        self._stack.until_final(self._handle, ExecutionStatus.SUCCEEDED)
        return seconds


def children(stack: Stack, scale: Scale, tick: Callable[[], object]) -> list[Figure]:
    """E: a pool child is killed, the worker lives."""
    delays = []
    with stack.durable_worker():
        for _ in range(scale.children):
            delays.append(Lingering(stack).delay(lambda pid: os.kill(pid, signal.SIGKILL)))
            tick()
    return [_figure("E", "step of a killed pool child, slowest to run again", delays, CHILD_BOUND)]


def workers(stack: Stack, scale: Scale, tick: Callable[[], object]) -> list[Figure]:
    """F: a worker's main process is killed, and its children with it; another worker lives."""
    delays = []
    names = {name: stack.start_durable_worker(name).pid for name in _WORKERS}
    stack.start_beat("beat")
    stack.warm_up()
    for _ in range(scale.workers):
        victims: list[str] = []

        def kill(pid: int, victims: list[str] = victims) -> None:
            victims += [name for name, main in names.items() if main == _parent(pid)]
            stack.kill(victims[0])

        delays.append(Lingering(stack).delay(kill))
        names[victims[0]] = stack.start_durable_worker(victims[0]).pid
        tick()
    stack.end("beat", *names)
    return [_figure("F", "step of a killed worker, slowest to run again", delays, WORKER_BOUND)]


def _figure(part: str, name: str, delays: list[float], bound: float) -> Figure:
    within = sum(delay <= bound for delay in delays)
    details = {"kills": len(delays), "in time": within, "fastest s": min(delays), "all s": sorted(delays)}
    return Figure(part=part, name=name, value=max(delays), unit="s", bound=bound, details=details)


def _parent(pid: int) -> int:
    """The process that started another, from what the kernel tells behind the name in brackets."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
