"""What every measurement stands on: servers of its own, a client, and worker pools of two processes each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from orchestrator import Orchestrator
from orchestrator.clock import elapsed, pause
from orchestrator.embedded import Process, Processes, Servers
from orchestrator.ledger.database import connect
from orchestrator.ledger.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
#: Every pool's processes.
CONCURRENCY = 2
#: Seconds after which something that was waited for will not come any more.
PATIENCE = 120.0

DURABLE = "benchmarks.apps.durable"
PLAIN = "benchmarks.apps.plain"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Servers that are up, and what talks to them."""

    orchestrator: Orchestrator
    redis: Redis
    broker_url: str
    processes: Processes
    #: A folder that goes with the stack.
    folder: Path
    _environment: Mapping[str, str]

    def start_worker(self, name: str, app: str, queues: str) -> Process:
        """Start a pool for an application of benchmarks.apps."""
        # What workers tell each other serves no one here; without it, pools of plain Celery are at their fastest.
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        size = ("--pool", "prefork", "--concurrency", str(CONCURRENCY))
        return self._celery(name, app, "worker", "--hostname", name, "--queues", queues, *size, *quiet)

    def start_durable_worker(self, name: str) -> Process:
        """Start a pool of our engine, which also sweeps when asked to."""
        settings = self.orchestrator.settings
        return self.start_worker(name, DURABLE, f"{settings.default_queue},{settings.sweep_queue}")

    def start_beat(self, name: str) -> Process:
        """Start our beat, which asks for sweeps."""
        schedule = ("--schedule", str(self.folder / f"{name}.schedule"))
        return self._celery(
            name, DURABLE, "beat", "--scheduler", "orchestrator.recovery.beat:LedgerScheduler", *schedule
        )

    @contextmanager
    def durable_worker(self) -> Iterator[Process]:
        """A pool of our engine, without a beat, warm."""
        process = self.start_durable_worker("durable")
        try:
            self.warm_up()
            yield process
        finally:
            self.processes.terminate("durable")

    def warm_up(self) -> None:
        """Let every process of our pools meet the definitions and prepare its statements."""
        for name, count in (("ten", 40), ("thousand", 4)):
            for handle in self.orchestrator.start_many(name, [(None, None)] * count):
                self.until(lambda handle=handle: handle.status() == "succeeded", f"execution {handle.id}")  # type: ignore[misc]

    def until(self, holds: Callable[[], bool], what: str, *, poll: float = 0.02, timeout: float = PATIENCE) -> None:
        """Wait for a condition; TimeoutError names `what`, and ChildProcessError a worker that has ended."""
        deadline = elapsed() + timeout
        while not holds():
            if ended := [name for name in self.processes.poll() if name not in self._expected_to_end]:
                raise ChildProcessError(f"{ended[0]} has ended:\n{self.processes.log_tail(ended[0])}")
            if elapsed() > deadline:
                raise TimeoutError(f"{what} did not come within {timeout:g} s")
            pause(poll)
