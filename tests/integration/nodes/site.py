"""One site: a database and a broker, the nodes on them, and an orchestrator to start executions with."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu import pools
from sqlalchemy import create_engine, make_url, text

from nodes.amqp_broker import AmqpBroker
from nodes.brokers import SiteBroker
from nodes.circumstances import circumstances
from nodes.messages import Message
from nodes.process_nodes import BeatNode, ProcessContainer, WorkerNode, celery
from nodes.redis_broker import RedisBroker
from nodes.traffic import Traffic
from nodes.waiting import PATIENCE, eventually
from nodes.witness import VARIABLE, Call, Witness
from orchestrator import ExecutionHandle, Orchestrator
from orchestrator.embedded import Process, Processes, Servers
from orchestrator.engine.replay import replayed_all
from orchestrator.ledger import database, views
from orchestrator.ledger.migrate import migrate

#: Where the package `nodes` and the repository's own packages are.
_PATH = os.pathsep.join(str(Path(__file__).parents[up]) for up in (1, 3))
WORK, SWEEPS = "orchestrator", "orchestrator.sweeps"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A worker node that a test module wants."""

    name: str
    queues: tuple[str, ...] = (WORK,)
    concurrency: int = 2
    pool: str = "prefork"
    #: Environment variables in addition, by name.
    env: tuple[tuple[str, str], ...] = ()


#: The definitions that workers know.
MODULES = (
    "nodes.workflows",
    "nodes.shapes",
    "nodes.machines",
    "nodes.controlled",
    "nodes.awkward",
    "nodes.order_saga",
    "nodes.retaken",
    "nodes.parts",
    "nodes.legacy",
    "nodes.long_work",
    "nodes.erring",
    "nodes.oversight",
    "nodes.crowded",
    "nodes.restored",
)
#: Those that the test process starts.
STARTED = (*MODULES, "nodes.large", "nodes.stray", "nodes.latecomer")
#: Sweeps have a node of their own: those of the tests are busy with activities that wait.
SWEEPER = Pool(name="sweeper", queues=(SWEEPS,), concurrency=1)


class Site:
    """Everything that the tests share. The test process also knows `nodes.stray`, which workers do not load.

    Args:
        broker: another than the servers', with the settings that lead to it.
        settings: of the orchestrator, here and on the nodes.
    """

    def __init__(
        self, servers: Servers, processes: Processes, broker: SiteBroker | None = None, **settings: Any
    ) -> None:
        self.servers, self._processes = servers, processes
        self._settings = {"broker_url": servers.broker_url, **settings, "database_url": _own_database(servers)}
        self.database_url, self.broker_url = self._settings["database_url"], self._settings["broker_url"]
        is_amqp = self.broker_url.startswith("amqp")
        self.broker = broker or (AmqpBroker(servers) if is_amqp else RedisBroker(self.broker_url))
        self.broker.flush()
        self.witness = Witness(processes.root / "witness")
        self.orchestrator = Orchestrator(modules=STARTED, pool_size=5, **self._settings)
        self._nodes: dict[Pool, WorkerNode] = {}
        self._beats: dict[str, BeatNode] = {}
        self._programs: list[str] = []
        pooler = self.orchestrator.settings.pooler
        engine = database.connect(self.database_url, pool_size=1, lock_timeout=10, pooler=pooler)
        migrate(engine)
        engine.dispose()
        # Tests restart the server: a connection is tried before it is used. A pooler may be between.
        self._own = create_engine(self.database_url, pool_pre_ping=True, connect_args={"prepare_threshold": None})
        self.execute("CREATE TABLE effect (execution uuid, path text, attempt int)")

    def close(self) -> None:
        """Give connections back."""
        self.orchestrator.core.database.dispose()
        self._own.dispose()
        self.orchestrator.app.close()
        self.broker.close()

    def still(self) -> None:
        """End all nodes and beats at once, and the test process's own connections to the database."""
        for node in self._nodes.values():
            node.kill()
        for beat in self._beats.values():
            beat.kill()
        self._nodes.clear()
        self._beats.clear()
        self.orchestrator.core.database.dispose()
        self._own.dispose()

    def forget_connections(self) -> None:
        """Have the test process make new connections to the broker, which has ended those it had."""
        app = self.orchestrator.app
        pools.reset()
        # Celery keeps what kombu has just closed.
        app._pool = app.amqp._producer_pool = None

    def traffic(self, *, doubling: bool = False) -> Traffic:
        """A recorder of messages, to be entered."""
        return Traffic(self.broker, doubling=doubling)

    def running(self, *pools: Pool) -> list[WorkerNode]:
        """Exactly these worker nodes, ready, with the one that sweeps and a beat; those that run already stay."""
        wanted = (*pools, SWEEPER)
        while self._programs:
            self._processes.kill(self._programs.pop())
        for pool, node in list(self._nodes.items()):
            if pool not in wanted or not node.alive:
                node.kill()
                del self._nodes[pool]
        beat = self._beats.get("beat")
        if beat is None or beat.container.status != "running":
            beat = self._beats["beat"] = self.beat("beat")
        for pool in wanted:
            self._nodes[pool] = self._nodes.get(pool) or self.worker(pool)
        nodes = [self._nodes[pool] for pool in wanted]
        assert beat.ready()
        assert all(node.ready() for node in nodes)
        return nodes

    def worker(self, pool: Pool) -> WorkerNode:
        """A worker node, started; `ready()` waits for it."""
        argv = celery("worker", "--pool", pool.pool, "--concurrency", str(pool.concurrency), "--loglevel", "INFO")
        argv += ["--hostname", f"{pool.name}@%h", "--queues", ",".join(pool.queues)]
        argv += ["--without-gossip", "--without-mingle"]
        container = self._container(pool.name, argv, dict(pool.env), " ready.", pool.queues)
        return WorkerNode(container, self.orchestrator.app)

    def beat(self, name: str) -> BeatNode:
        """A beat node, started; `ready()` waits for it."""
        argv = celery("beat", "--scheduler", "orchestrator.recovery.beat:LedgerScheduler", "--loglevel", "INFO")
        return BeatNode(self._container(name, argv, {}, "beat: Starting", ()), self.orchestrator.app)

    def _container(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], prompt: str, queues: Sequence[str]
    ) -> ProcessContainer:
        container = ProcessContainer(
            self._processes, name, argv, {**self._environment(), **env}, prompt=prompt, queues=queues
        )
        container.start()
        return container

    def _environment(self) -> dict[str, str]:
        given = {
            f"ORCHESTRATOR_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in self._settings.items()
        }
        settings = {
            **given,
            "PYTHONPATH": _PATH,
            VARIABLE: str(self.witness.folder),
            "ORCHESTRATOR_MODULES": ",".join(MODULES),
            "ORCHESTRATOR_HEARTBEAT_INTERVAL": "0.5",
            "ORCHESTRATOR_DEAD_AFTER": "3",
            "ORCHESTRATOR_QUEUE_UNCONSUMED_AFTER": "1",
        }
        sweeps = ("TIMERS", "OWNERS", "OVERTAKEN", "STALLED", "DEADLINES", "INCIDENTS")
        return settings | {f"ORCHESTRATOR_SWEEP_{sweep}": "0.5" for sweep in sweeps}

    def without_beat(self) -> None:
        """End the beat that `running` keeps; it starts another."""
        self._beats.pop("beat").kill()

    def program(self, command: str) -> None:
        """Start a command line that goes on, such as a worker's, until other nodes are wanted."""
        name, arguments = f"program-{uuid4().hex[:8]}", shlex.split(command)[1:]
        arguments += ["--name", name, "--concurrency", "1"] if arguments[0] == "worker" else []
        self.launch(name, arguments)
        self._programs.append(name)

    def launch(self, name: str, arguments: Sequence[str]) -> Process:
        """Start our command line under a name."""
        return self._processes.start(name, [sys.executable, "-m", "orchestrator.cli", *arguments], self._environment())

    # Starting and waiting.

    def start(self, name: str, input: Any = None, **options: Any) -> ExecutionHandle:  # noqa: A002 - the facade's
        """Start an execution from the test process."""
        return self.orchestrator.start(name, {} if input is None else input, **options)

    def call(self, handle: ExecutionHandle, path: str, attempt: int = 1, within: float = PATIENCE) -> Call:
        """The call of a step's attempt, once it has begun."""
        try:
            return eventually(
                lambda: next((c for c in self.witness.calls(handle.id, path) if c.attempt == attempt), None),
                f"attempt {attempt} of {path} has begun",
                within,
            )
        except AssertionError as error:
            error.add_note(circumstances(self.orchestrator, self.waiting(WORK), handle))
            raise

    def status(self, handle: ExecutionHandle, status: str, within: float = PATIENCE) -> None:
        """Wait until the execution has a status."""
        eventually(lambda: handle.status() == status, f"{handle.id} is {status}, not {handle.status()}", within)

    def step_status(self, handle: ExecutionHandle, path: str, status: str, within: float = PATIENCE) -> None:
        """Wait until a step has a status."""
        eventually(lambda: self.steps(handle).get(path) == status, f"{path} is {status}", within)

    def open(self, handle: ExecutionHandle, gate: str = "gate") -> None:
        """Let an execution pass a gate."""
        self.witness.open(f"{handle.id}.{gate}")

    def open_all(self) -> None:
        """Open the gates that tests have left closed."""
        for execution in self.witness.executions():
            for gate in ("gate", "refusal"):
                self.witness.open(f"{execution}.{gate}")

    # The ledger, as it stands.

    def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a statement of the test's own."""

        def attempt() -> list[Any]:
            with self._own.begin() as connection:
                result = connection.execute(text(statement), parameters)
                return list(result) if result.returns_rows else []

        # A pooler takes connections while the server behind it is restarted.
        return database.persist(attempt, give_up_after=PATIENCE)

    def value(self, statement: str, **parameters: Any) -> Any:
        """The only value of a statement of the test's own."""
        return self.execute(statement, **parameters)[0][0]

    def step(self, handle: ExecutionHandle, path: str) -> dict[str, Any]:
        """A step's row."""
        with self.orchestrator.core.database.connect() as connection:
            found = {row["path"]: row for row in views.steps(connection, handle.id)}
        return found[path]

    def steps(self, handle: ExecutionHandle) -> dict[str, str]:
        """path -> status of every step that has a row."""
        with self.orchestrator.core.database.connect() as connection:
            return {row["path"]: row["status"] for row in views.steps(connection, handle.id)}

    def events(self, handle: ExecutionHandle, kind: str) -> list[dict[str, Any]]:
        """Events of one type."""
        return [event for event in handle.events() if event["type"] == kind]

    def differences(self) -> list[str]:
        """What the history of any execution of the whole session says otherwise than its rows."""
        found = replayed_all(self.orchestrator.core.database)
        return [f"{one.execution_id} {difference}" for one in found for difference in one.differences]

    def boot_id(self, node: WorkerNode) -> str | None:
        """The boot id under which a node lives now; None when it has none."""
        rows = self.execute(
            "SELECT boot_id FROM orchestrator.worker WHERE pid = :pid AND buried_at IS NULL AND stopped_at IS NULL",
            pid=node.pid,
        )
        return str(rows[0][0]) if rows else None

    # The broker, as it stands.

    def waiting(self, queue: str) -> list[Message]:
        """Messages that wait in a queue, the oldest first."""
        return self.broker.waiting(queue)

    def deliver(self, message: Message, queue: str | None = None) -> None:
        """Deliver a message once more, into its own queue or another."""
        self.broker.deliver(message, queue or message.queue)


def settled_once(site: Site, handle: ExecutionHandle) -> None:
    """Assert that every step that the history knows has one settling event."""
    settling = ("step_succeeded", "step_failed", "step_skipped", "step_cancelled", "step_timed_out")
    settled = [event["path"] for event in handle.events() if event["type"] in settling]
    assert sorted(settled) == sorted(site.steps(handle)), "each step is settled exactly once"


def _own_database(servers: Servers) -> str:
    """The URL of an empty database."""
    name, url = f"site_{uuid4().hex[:12]}", servers.database_url
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)
