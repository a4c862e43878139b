"""What every measurement stands on: servers of its own, a client, and worker pools of two processes each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from orchestrator import ExecutionHandle, Orchestrator
from orchestrator.clock import elapsed, pause
from orchestrator.embedded import Process, Processes, Servers
from orchestrator.ledger.database import connect
from orchestrator.ledger.migrate import migrate
from orchestrator.model.state import FINAL_EXECUTIONS, ExecutionStatus

ROOT = Path(__file__).resolve().parent.parent
#: Every pool's processes.
CONCURRENCY = 2
#: Seconds after which something that was waited for will not come any more.
PATIENCE = 120.0
#: Seconds between two looks at whether something has come.
POLL = 0.02

DURABLE = "benchmarks.apps.durable"
SCHEDULER = "orchestrator.recovery.beat:LedgerScheduler"


class Stack:
    """Servers that are up, a client of our engine, and the pools that a measurement starts."""

    def __init__(self, servers: Servers, processes: Processes) -> None:
        self.broker_url, self.folder = servers.broker_url, processes.root
        self.redis = Redis.from_url(servers.broker_url)
        self.orchestrator = Orchestrator(
            database_url=servers.database_url, broker_url=servers.broker_url, modules=("benchmarks.workflows",)
        )
        self._processes = processes
        self._up: set[str] = set()
        self._environment = {
            "ORCHESTRATOR_DATABASE_URL": servers.database_url,
            "ORCHESTRATOR_BROKER_URL": servers.broker_url,
            "CELERY_BROKER_URL": servers.broker_url,
        }

    def start_worker(self, name: str, app: str, *queues: str) -> Process:
        """Start a pool for an application of `benchmarks.apps`."""
        # What workers tell each other serves no one here; without it every pool is at its fastest.
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        size = ("--pool", "prefork", "--concurrency", str(CONCURRENCY))
        return self._celery(name, app, "worker", "--hostname", name, "--queues", ",".join(queues), *size, *quiet)

    def start_durable_worker(self, name: str) -> Process:
        """Start a pool of our engine; it sweeps when it comes up, and when a beat asks it to."""
        settings = self.orchestrator.settings
        return self.start_worker(name, DURABLE, settings.default_queue, settings.sweep_queue)

    def start_beat(self, name: str) -> Process:
        """Start our beat."""
        return self._celery(name, DURABLE, "beat", "--scheduler", SCHEDULER)

    def end(self, *names: str) -> None:
        """End pools and beats in good order."""
        self._up -= set(names)
        for name in names:
            self._processes.terminate(name)

    def kill(self, name: str) -> None:
        """SIGKILL a pool's main process."""
        self._up.remove(name)
        self._processes.kill(name)

    @contextmanager
    def durable_worker(self) -> Iterator[Process]:
        """A pool of our engine, warm, without a beat."""
        process = self.start_durable_worker("durable")
        try:
            self.warm_up()
            yield process
        finally:
            self.end("durable")

    def warm_up(self) -> None:
        """Let the processes of our pools meet the definitions and prepare their statements."""
        handles = self.orchestrator.start_many("ten", [(None, None)] * 40)
        handles += self.orchestrator.start_many("thousand", [(None, None)] * 4)
        for handle in handles:
            self.until_final(handle, ExecutionStatus.SUCCEEDED)

    def until_final(self, handle: ExecutionHandle, expected: ExecutionStatus) -> None:
        """Wait for an execution's end; RuntimeError when it is another than the expected one."""
        self.until(lambda: handle.status() in FINAL_EXECUTIONS | {expected}, f"the end of execution {handle.id}")
        if (status := handle.status()) != expected:
            raise RuntimeError(f"execution {handle.id} is {status}, not {expected}: {handle.events()[-3:]}")

    def until(self, holds: Callable[[], bool], what: str, *, timeout: float = PATIENCE) -> None:
        """Wait for a condition.

        Raises:
            TimeoutError: `what` did not come.
            ChildProcessError: a worker has ended by itself; shows what it wrote last.
        """
        deadline = elapsed() + timeout
        while not holds():
            for name in self._up.intersection(self._processes.poll()):
                raise ChildProcessError(f"{name} has ended:\n{self._processes.log_tail(name)}")
            if elapsed() > deadline:
                raise TimeoutError(f"{what} did not come within {timeout:g} s")
            pause(POLL)

    def _celery(self, name: str, app: str, command: str, *arguments: str) -> Process:
        celery = [sys.executable, "-W", "ignore", "-m", "celery", "--workdir", str(ROOT), "--app", app]
        process = self._processes.start(
            name, [*celery, command, "--loglevel", "WARNING", *arguments], self._environment
        )
        self._up.add(name)
        return process


@contextmanager
def stack() -> Iterator[Stack]:
    """Servers on fresh data, the ledger's tables in place."""
    with TemporaryDirectory(prefix="benchmarks-") as folder, Servers() as servers:
        engine = connect(servers.database_url, pool_size=2, lock_timeout=10)
        migrate(engine)
        engine.dispose()
        with Processes(Path(folder)) as processes:
            yield Stack(servers, processes)
