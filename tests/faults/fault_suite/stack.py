"""What is hurt: servers, proxies before them, workers on two hosts, two beats, and a client."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from servers import Authority, PgBouncer, RabbitMQ, RedisTls, Sentinels
from servers.sentinel import MASTER
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from fault_suite import outside, workload
from fault_suite.broker_view import QUEUES, view
from fault_suite.connections import Census
from fault_suite.hosts import Host
from fault_suite.outside import Answer, Outside
from fault_suite.proxy import Proxy
from orchestrator import Orchestrator, OrchestratorError, Settings
from orchestrator.embedded import Process, Processes
from orchestrator.embedded.broker import Broker
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.server import Server
from orchestrator.engine.replay import PAGE, replayed
from orchestrator.ledger import figures
from orchestrator.ledger.migrate import migrate

T = TypeVar("T")

_TESTS = Path(__file__).parents[2]
#: Where the package, the tests' servers and the repository are.
PATH = os.pathsep.join(str(path) for path in (_TESTS / "faults", _TESTS, _TESTS.parent))
WORK, SWEEPS = QUEUES
#: Quicker than the product's defaults, so that a suite that waits for the dead has time for many deaths.
QUICK = {
    "ORCHESTRATOR_HEARTBEAT_INTERVAL": "0.5",
    "ORCHESTRATOR_DEAD_AFTER": "3",
    "ORCHESTRATOR_QUEUE_UNCONSUMED_AFTER": "2",
    **{
        f"ORCHESTRATOR_SWEEP_{sweep}": "0.5"
        for sweep in ("TIMERS", "OWNERS", "OVERTAKEN", "STALLED", "DEADLINES", "INCIDENTS")
    },
}
#: Several faults may meet the same step by chance; only the poison is meant to fail by it.
MAX_CRASHES = "5"
#: Seconds that anything has to come up, or to happen, on a machine that is busy with other things.
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a stack is made of."""

    #: redis, amqp, tls or sentinel.
    broker: str = "redis"
    #: Whether workers reach PostgreSQL through a PgBouncer in transaction mode.
    pooler: bool = False
    #: Whether the product's own timings are kept.
    defaults: bool = False
    #: Whether the second worker has a host of its own.
    hosts: bool = True
    #: Processes of each worker.
    concurrency: int = 2
    #: Name of a way in which the engine is deliberately broken (mutants.py).
    mutant: str | None = None

    @property
    def proxied(self) -> bool:
        """Whether proxies can stand before the broker: certificates and Sentinels name the addresses themselves."""
        return self.broker in {"redis", "amqp"}


@dataclass(kw_only=True, slots=True)
class Node:
    """A worker or a beat."""

    name: str
    process: Process
    argv: list[str]
    env: dict[str, str] = field(repr=False)
    #: a or b: which proxies it goes through.
    side: str = "a"
    #: Bytes of its log that were there before it was started.
    logged: int = 0

    @property
    def pid(self) -> int:
        """Of its main process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether its main process is there."""
        return self.process.returncode is None

    def children(self) -> list[int]:
        """Process ids of its pool."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []


class Stack:
    """All of it. A context manager, entered from the main thread.

    Args:
        folder: for data, logs and what is written outside.
    """

    def __init__(self, folder: Path, choice: Choice) -> None:
        self.folder, self.choice = folder, choice
        self.outside = Outside(folder / "outside")
        self.nodes: dict[str, Node] = {}
        self.host: Host | None = None
        self._exit = ExitStack()
        #: Those that a fault ends on purpose, and that may be gone.
        self.excused: set[str] = set()
        #: Those that had ended by themselves before they were started again, since somebody last forgot them.
        self.fallen: set[str] = set()
        self._mend: list[Callable[[], object]] = []
        #: Of the load that is carried at the moment.
        self.mark, self.seed, self.rate = "none", 0, 0.0

    # Life cycle.

    def __enter__(self) -> Self:
        with self._exit:
            self._start()
            self._exit = self._exit.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self) -> None:
        enter = self._exit.enter_context
        self.postgres = enter(Postgres(self.folder / "postgres"))
        self.sentinels: Sentinels | None = None
        self._broker_options: dict[str, Any] = {}
        self.broker = self._start_broker()
        self.messages = view(self.broker)
        self.pooler = enter(PgBouncer(self.folder / "pooler", self.postgres)) if self.choice.pooler else None
        self.processes = enter(Processes(self.folder / "processes", grace=5))
        if self.choice.hosts:
            self.host = enter(Host())
        self.database_proxies: dict[str, Proxy] = {}
        self.broker_proxies: dict[str, Proxy] = {}
        for side in ("a", "b"):
            at_database, at_broker = self._gateways(side)
            self.database_proxies[side] = enter(Proxy((self.pooler or self.postgres).port, at_database))
            if self.choice.proxied and self.broker is not None:
                self.broker_proxies[side] = enter(Proxy(self.broker.port, at_broker))
        self.orchestrator = Orchestrator(
            database_url=self.postgres.url,
            broker_url=self.broker_url(),
            modules=("fault_suite.workload",),
            pool_size=4,
            **self._broker_options,
        )
        self._exit.callback(self.orchestrator.app.close)
        self._exit.callback(self.orchestrator.core.database.dispose)
        self.engine = create_engine(self.postgres.url, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
        self._exit.callback(self.engine.dispose)
        migrate(self.orchestrator.core.database)
        self.execute(workload.SCHEMA)
        os.environ[outside.FOLDER] = str(self.outside.folder)
        self.census = enter(Census(self))
        for name, side in (("worker-1", "a"), ("worker-2", "b")):
            self.start_worker(name, side=side, wait=False)
        for name in ("beat-1", "beat-2"):
            self.start_beat(name)
        self.await_workers()

    def _gateways(self, side: str) -> tuple[str, str]:
        if side == "b" and self.host is not None:
            return self.host.database.gateway, self.host.broker.gateway
        return "127.0.0.1", "127.0.0.1"

    def _start_broker(self) -> Server | None:
        enter, folder = self._exit.enter_context, self.folder / "broker"
        match self.choice.broker:
            case "amqp":
                return enter(RabbitMQ(folder))
            case "tls":
                authority = Authority(self.folder / "authority")
                self._broker_options = {"broker_ca": str(authority.certificate)}
                return enter(RedisTls(folder, authority))
            case "sentinel":
                self.sentinels = enter(Sentinels(folder))
                self._broker_options = {"broker_options": {"master_name": MASTER}}
                return None
            case _:
                return enter(Broker(folder))

    # Addresses.

    def database_url(self, side: str) -> str:
        """How a side reaches PostgreSQL."""
        return self._through(make_url(self.postgres.url), self.database_proxies[side], self._gateways(side)[0])

    def broker_url(self, side: str | None = None) -> str:
        """How a side reaches the broker; None: directly."""
        if self.sentinels is not None:
            return self.sentinels.url
        assert self.broker is not None
        if side is None or side not in self.broker_proxies:
            return self.broker.url
        # Kombu reads an absent and an empty virtual host differently: only host and port may change.
        return self.broker.url.replace(
            f"@127.0.0.1:{self.broker.port}", f"@{self._gateways(side)[1]}:{self.broker_proxies[side].port}"
        )

    def _through(self, url: URL, proxy: Proxy, host: str) -> str:
        return url.set(host=host, port=proxy.port).render_as_string(hide_password=False)

    def environment(self, side: str | None) -> dict[str, str]:
        """What a program on a side has in its environment; None: the client, who goes directly."""
        found = {
            "PYTHONPATH": PATH,
            outside.FOLDER: str(self.outside.folder),
            "ORCHESTRATOR_DATABASE_URL": self.database_url(side) if side else self.postgres.url,
            "ORCHESTRATOR_BROKER_URL": self.broker_url(side),
            "ORCHESTRATOR_MODULES": "fault_suite.workload",
            "ORCHESTRATOR_MAX_CRASHES": MAX_CRASHES,
        }
        for name, value in self._broker_options.items():
            found[f"ORCHESTRATOR_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
        if self.choice.pooler and side:
            found["ORCHESTRATOR_POOLER"] = "true"
        if self.choice.mutant:
            found["ORCHESTRATOR_MODULES"] += ",fault_suite.mutants"
            found["FAULTS_MUTANT"] = self.choice.mutant
        return found if self.choice.defaults else found | QUICK

    @property
    def dead_after(self) -> float:
        """Seconds of silence after which a worker is taken for dead."""
        return float(self.environment("a").get("ORCHESTRATOR_DEAD_AFTER", Settings().dead_after))

    # The load.

    def start_client(self, mark: str, seed: int, rate: float) -> Process:
        """A client that starts `rate` executions a second under a mark, until `stop_client`."""
        self.mark, self.seed, self.rate = mark, seed, rate
        argv = [sys.executable, "-m", "fault_suite.client", mark, str(seed), str(rate)]
        self.client = self.processes.start(f"client-{mark}-{seed}", argv, self.environment(None))
        return self.client

    def stop_client(self) -> None:
        """Let the client do what is still due, and end."""
        (self.outside.folder / f"stop-{self.mark}").touch()
        if self.client.wait(PATIENCE):
            raise RuntimeError(f"the client has ended:\n{self.processes.log_tail(self.client.name)}")

    def start_many(self, name: str, count: int) -> None:
        """Executions beside those of the client, under the same mark."""
        for handle in self.orchestrator.start_many(name, [(None, {})] * count, correlation_id=self.mark):
            answer = Answer(kind="started", definition=name, execution=handle.id, at=time.monotonic())
            self.outside.answer(self.mark, answer)

    # Nodes.

    def start_worker(
        self,
        name: str,
        *,
        side: str = "a",
        queues: Iterable[str] = (WORK, SWEEPS),
        concurrency: int | None = None,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Node:
        """A worker, up when this returns unless told not to wait."""
        size = concurrency or self.choice.concurrency
        argv = [sys.executable, "-m", "orchestrator.cli", "worker", "--name", name, "--concurrency", str(size)]
        argv += ["--queues", ",".join(queues)]
        if side == "b" and self.host is not None:
            argv = self.host.command(argv)
        node = self._start_node(name, argv, self.environment(side) | dict(env or {}), side)
        if wait:
            self.await_workers()
        return node

    def start_beat(self, name: str) -> Node:
        """A beat."""
        argv = [sys.executable, "-m", "orchestrator.cli", "beat"]
        return self._start_node(name, argv, self.environment("a"), "a")

    def _start_node(self, name: str, argv: list[str], env: dict[str, str], side: str) -> Node:
        before = self.nodes[name].process.log.stat().st_size if name in self.nodes else 0
        process = self.processes.start(name, argv, env)
        node = Node(name=name, process=process, argv=argv, env=env, side=side, logged=before)
        self.nodes[name] = node
        self.excused.discard(name)
        return node

    def start_again(self, name: str, *, wait: bool = True) -> Node:
        """What was ended, as it was started before."""
        before = self.nodes[name]
        node = self._start_node(name, before.argv, before.env, before.side)
        if wait and "worker" in before.argv:
            self.await_workers()
        return node

    def kill(self, name: str) -> None:
        """SIGKILL a node and all of its processes at once, as the end of its machine would."""
        node = self.nodes[name]
        self.excused.add(name)
        children = node.children()
        node.process.signal(signal.SIGSTOP)  # frozen, it tells nobody of its children's end
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        node.process.signal(signal.SIGKILL)
        node.process.wait(PATIENCE)

    def workers(self) -> list[Node]:
        """Workers that are up."""
        return [node for node in list(self.nodes.values()) if "worker" in node.argv and node.alive]

    def await_workers(self) -> None:
        """Wait until each worker has registered its node."""
        for node in self.workers():
            self.until(lambda node=node: self._registered(node), f"{node.name} is up")  # type: ignore[misc]

    def _registered(self, node: Node) -> bool:
        if not node.alive:
            raise RuntimeError(f"{node.name} has ended:\n{self.processes.log_tail(node.name)}")
        with self.engine.connect() as connection:
            return figures.node(connection, node.pid) is not None

    def ended_by_themselves(self) -> list[str]:
        """Nodes that are gone, or were before they were healed, and that nobody ended."""
        gone = {name for name, node in self.nodes.items() if not node.alive and name not in self.excused}
        return sorted(self.fallen | gone)

    def retire(self, name: str) -> None:
        """End a node in order, and forget it; nothing happens if that was done before."""
        if self.nodes.pop(name, None) is not None:
            self.processes.terminate(name, 20)

    # Faults leave things to mend.

    def afterwards(self, mend: Callable[[], object]) -> None:
        """Have something mended by `heal`."""
        self._mend.append(mend)

    def heal(self) -> None:
        """Mend everything, and start whatever is gone."""
        self.fallen.update(self.ended_by_themselves())
        for mend in reversed(self._mend):
            mend()
        self._mend.clear()
        for proxy in (*self.database_proxies.values(), *self.broker_proxies.values()):
            proxy.heal()
        self.postgres.start()
        if self.broker is not None:
            self.broker.start()
        if self.pooler is not None:
            # For a moment it refuses whoever comes, as PostgreSQL was away; and nobody starts without a database.
            self.until(self._database_answers, "PostgreSQL answers through the pooler")
        for name, node in list(self.nodes.items()):
            if not node.alive:
                self.start_again(name, wait=False)
        self.await_workers()
        # Whoever is hit while it starts ends, with an error: its supervisor would start it again.
        for node in (node for node in self.nodes.values() if "beat" in node.argv):
            self.until(partial(_begun, node), f"{node.name} is up")

    def _database_answers(self) -> bool:
        engine = create_engine(self.database_url("a"), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError:
            return False
        return True

    def postgres_signal(self, number: signal.Signals) -> None:
        """Signal PostgreSQL's main process."""
        os.kill(self.postgres.pid, number)

    # The ledger, as it stands.

    def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a statement of the suite's own."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    def value(self, statement: str, **parameters: Any) -> Any:
        """The only value of one."""
        return self.execute(statement, **parameters)[0][0]

    def until(self, condition: Callable[[], T], what: str, within: float = PATIENCE) -> T:
        """Poll until something holds, and give it; TimeoutError says what did not."""
        deadline = time.monotonic() + within
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within:g} s: {what}")
            time.sleep(0.02)
        return found

    def unfinished(self, mark: str) -> int:
        """Executions of a load that have not ended."""
        return int(self.value(_UNFINISHED, mark=mark))

    def differences(self, mark: str) -> list[str]:
        """What the histories of a load's executions say otherwise than their rows."""
        ids = [str(row[0]) for row in self.execute(_OF, mark=mark)]
        found = list[str]()
        for begin in range(0, len(ids), PAGE):
            for one in replayed(self.engine, ids[begin : begin + PAGE]):
                found += [f"{one.execution_id}: {difference}" for difference in one.differences]
        return found

    def unfinished_of(self, definition: str) -> int:
        """Those of one workflow, in the load that is carried at the moment."""
        return int(self.value(f"{_UNFINISHED} AND definition_name = :name", mark=self.mark, name=definition))

    def drain(self, mark: str, within: float) -> int:
        """Give every approval its signal, unless the client was told that it has it, and wait for all to end; how many
        have not."""
        deadline = time.monotonic() + within
        told = {answer.execution for answer in self.outside.answers(mark) if answer.kind == "signalled"}
        while (left := self.unfinished(mark)) and time.monotonic() < deadline:
            for (execution,) in self.execute(_UNSIGNALLED, mark=mark):
                if str(execution) in told:
                    continue
                with suppress(OrchestratorError):
                    self.orchestrator.signal(str(execution), "go", {}, id="go")
            time.sleep(0.1)
        return left


def _begun(beat: Node) -> bool:
    """Whether a beat says that it has begun, or has ended."""
    with beat.process.log.open("rb") as log:
        log.seek(beat.logged)
        return not beat.alive or b"beat: Starting" in log.read()


_UNFINISHED = """
SELECT count(*) FROM orchestrator.execution WHERE correlation_id = :mark AND settled_at IS NULL
"""
_OF = "SELECT id FROM orchestrator.execution WHERE correlation_id = :mark"
_UNSIGNALLED = """
SELECT x.id FROM orchestrator.execution x JOIN orchestrator.step s ON s.execution_id = x.id
WHERE x.correlation_id = :mark AND x.settled_at IS NULL AND s.awaits = 'signal'
"""
