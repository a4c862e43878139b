"""An application's surroundings: a migrated database and a broker of its own, and processes that work on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from redis import Redis
from sqlalchemy import Connection, Engine, create_engine, make_url, text

from orchestrator.embedded import Processes, Servers
from orchestrator.embedded.processes import Process
from orchestrator.ledger.database import connect
from orchestrator.ledger.migrate import migrate

R = TypeVar("R")

HERE = Path(__file__).parent
QUEUES = "orchestrator,orchestrator.sweeps"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an application lives, and what it starts there."""

    database_url: str
    broker_url: str
    #: A Redis database for the application's own results and counters.
    redis_url: str
    #: On the ledger's database, outside the library; each statement commits by itself.
    engine: Engine
    processes: Processes
    env: dict[str, str] = field(default_factory=dict)

    def worker(self, app: str, *, name: str = "worker", queues: str = QUEUES, concurrency: int = 2) -> Process:
        """Start a Celery worker and wait until it has entered itself in the ledger."""
        before = self.value("SELECT count(*) FROM orchestrator.worker")
        process = self._celery(
            name, app, "worker", "-Q", queues, "-c", str(concurrency), "-n", f"{name}@%h", "-l", "info"
        )

        def up() -> bool:
            if process.returncode is not None:
                raise AssertionError(f"{name} ended:\n{self.processes.log_tail(name, 40)}")
            return bool(self.value("SELECT count(*) FROM orchestrator.worker") > before)

        eventually(up, within=30)
        return process

    def beat(self, app: str, *, name: str = "beat") -> Process:
        """Start a beat on the ledger."""
        return self._celery(name, app, "beat", "--scheduler", "orchestrator.recovery.beat:LedgerScheduler")

    def value(self, statement: str, **parameters: Any) -> Any:
        """The only value that a statement gives."""
        with self.engine.connect() as connection:
            return connection.execute(text(statement), parameters).scalar_one()

    def run(self, statement: str, **parameters: Any) -> None:
        """Execute a statement for what it does."""
        with self.engine.connect() as connection:
            connection.execute(text(statement), parameters)

    def redis(self) -> Redis:
        """The application's own Redis database."""
        return Redis.from_url(self.redis_url, decode_responses=True)

    def executions(self) -> int:
        """How many executions the ledger holds."""
        return int(self.value("SELECT count(*) FROM orchestrator.execution"))

    def _celery(self, name: str, app: str, *arguments: str) -> Process:
        return self.processes.start(name, [sys.executable, "-m", "celery", "-A", app, *arguments], env=self.env)


@contextmanager
def place(
    servers: Servers, folder: Path, name: str, *, number: int, env: Mapping[str, str] | None = None
) -> Iterator[Place]:
    """A database called `name` and the Redis databases `number` (broker) and `number + 1`, empty."""
    url = make_url(servers.database_url)
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    admin.dispose()
    database_url = url.set(database=name).render_as_string(hide_password=False)
    ledger = connect(database_url, pool_size=1, lock_timeout=10)
    migrate(ledger)
    ledger.dispose()
    brokers = [f"{servers.broker_url.rsplit('/', 1)[0]}/{index}" for index in (number, number + 1)]
    environment = {
        "ORCHESTRATOR_DATABASE_URL": database_url,
        "ORCHESTRATOR_BROKER_URL": brokers[0],
        "PYTHONPATH": str(HERE),
        # Celery warns of its own name for root, and a worker's log is read by people.
        "PYTHONWARNINGS": "default",
        **(env or {}),
    }
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    try:
        # What they work on goes with them: nobody waits for a shutdown in order.
        with Processes(folder, grace=0.5) as processes:
            yield Place(
                database_url=database_url,
                broker_url=brokers[0],
                redis_url=brokers[1],
                engine=engine,
                processes=processes,
                env=environment,
            )
    finally:
        engine.dispose()


def eventually(question: Callable[[], R], *, within: float = 20.0, every: float = 0.05) -> R:
    """Ask until the answer is true, and return it; AssertionError with the last answer after so many seconds."""
    deadline = monotonic() + within
    while not (answer := question()):
        assert monotonic() < deadline, f"not within {within} s; the last answer was {answer!r}"
        sleep(every)
    return answer


def all_rows(connection: Connection, statement: str, **parameters: Any) -> list[Any]:
    """Every row of a statement."""
    return list(connection.execute(text(statement), parameters))
