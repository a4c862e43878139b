"""A worker node's own life: registration, heartbeats, dead children, shutdown.

Runs in the worker's main process. Heartbeats and releases have a thread each: the event loop stops while the broker is
away, and must not wait for the database. So each heartbeat looks for dead children as well. Heartbeats have a
connection of their own, too: whoever else is at work in this process holds the other one while it publishes, and a
broker that does not answer must not make the node look dead.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.engine.core import Core
from orchestrator.engine.release import publish_released
from orchestrator.ledger import database, owners
from orchestrator.ledger.owners import Released
from orchestrator.model.identity import new_id
from orchestrator.runtime.owner import Node
from orchestrator.runtime.watch import Watch

logger = logging.getLogger("orchestrator.node")


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the node asks of Celery's worker."""

    name: str
    #: Process ids of the live pool children; empty where the pool has no processes.
    children: Callable[[], Sequence[int]]
    #: Names of the queues consumed.
    queues: Callable[[], Sequence[str]]


class NodeLife:
    """Keeps a node's row alive, and gives back what its dead children held.

    Args:
        beats: the ledger, for registration and heartbeats.
    """

    def __init__(
        self, core: Core, node: Node, surroundings: Surroundings, beats: Engine, watch: Watch | None = None
    ) -> None:
        self._core, self._node, self._around, self._beats, self._watch = core, node, surroundings, beats, watch
        self._stopping = threading.Event()
        self._dead: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._seen: frozenset[int] = frozenset()
        #: Those of them that a heartbeat has found dead.
        self._found: frozenset[int] = frozenset()
        self._threads = [
            threading.Thread(target=self._beat_on, name="orchestrator-heartbeat", daemon=True),
            threading.Thread(target=self._release_on, name="orchestrator-release", daemon=True),
        ]

    def start(self) -> None:
        """Register under a new boot id and begin to beat."""
        self._register()
        for thread in self._threads:
            thread.start()
        if self._watch is not None:
            self._watch.start()

    @property
    def drained(self) -> bool:
        """Whether it is to take up no more."""
        return self._node.drained

    def watch_children(self) -> None:
        """Notice pool children that are gone; called from the event loop, so it only takes note."""
        now = frozenset(self._around.children())
        for pid in self._seen - now:
            self._dead.put(pid)
        self._seen = now

    def child_died(self, pid: int) -> None:
        """Give back what a dead child held; called from the event loop, so it only takes note. Twice does no harm."""
        self._dead.put(pid)

    def stop(self) -> None:
        """Say goodbye: what is still held may be released at once."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.stop()
        self._dead.put(None)
        try:
            with self._core.database.connect() as connection:
                owners.stop(connection, self._node.boot_id)
                released = owners.release_gone(connection, max_crashes=self._core.settings.max_crashes)
                publish_released(self._core, connection, released)
        except SQLAlchemyError as error:
            logger.warning("could not say goodbye; the node will be found dead", extra={"reason": str(error)})

    def _register(self) -> None:
        """Enter the node under a new boot id, and only then go by it: what is claimed under a name that the ledger does
        not know is released by nobody."""
        boot_id = new_id().hex

        def register() -> None:
            with self._beats.connect() as connection:
                owners.register(
                    connection,
                    boot_id,
                    tenant=self._core.settings.tenant,
                    name=self._around.name,
                    queues=self._around.queues(),
                    children=self._around.children(),
                    pid=os.getpid(),
                    draining=self._node.drained,
                )

        database.persist(register)
        self._node.take_boot(boot_id)
        logger.info("node registered", extra={"boot_id": self._node.boot_id, "node": self._around.name})

    def _beat_on(self) -> None:
        settings = self._core.settings
        while not self._stopping.wait(settings.heartbeat_interval):
            try:
                with self._beats.connect() as connection:
                    drained = owners.beat(
                        connection,
                        self._node.boot_id,
                        children=self._living(),
                        queues=self._around.queues(),
                        gap=settings.heartbeat_interval * 2,
                    )
                if drained is not None:
                    self._node.set_drained(drained)
                else:
                    # What we hold was given to others and is fenced; from now on we claim under a new name.
                    buried = self._node.boot_id
                    logger.warning("node was taken for dead; going on under a new boot id", extra={"buried": buried})
                    self._register()
            except SQLAlchemyError as error:
                logger.warning("heartbeat failed", extra={"reason": str(error)})

    def _living(self) -> list[int]:
        """Pool children that have not ended; those that have are given to the release. The event loop notices a death
        much sooner, but not while it looks for the broker, and a child that is told alive keeps its claims."""
        children = self._seen | frozenset(self._around.children())
        dead = frozenset(pid for pid in children if _has_ended(pid))
        for pid in dead - self._found:
            self._dead.put(pid)
        self._found = dead
        return sorted(children - dead)

    def _release_on(self) -> None:
        while (pid := self._dead.get()) is not None:
            try:
                self._release(self._node.owner_of(pid))
            except Exception:
                # The owners' sweep misses the child in the heartbeats and releases in our stead.
                logger.exception("release failed", extra={"child": pid})

    def _release(self, owner: str) -> None:
        # A node that goes down ends its children itself.
        died = not self._node.draining

        def take(connection: Connection) -> list[Released]:
            most = self._core.settings.max_crashes
            return owners.release(connection, owner, max_crashes=most, died=died, whole=True)

        def release() -> list[Released]:
            with self._core.database.connect() as connection:
                # Twice: the dead child's last statement may still be at work in its backend. The first release waits
                # for it, the second sees what it claimed.
                return list(dict.fromkeys([*take(connection), *take(connection)]))

        released = database.persist(release, give_up_after=30)
        if released:
            logger.warning("claims of a dead child released", extra={"owner": owner, "steps": len(released)})
            with self._core.database.connect() as connection:
                publish_released(self._core, connection, released)


def _has_ended(child: int) -> bool:
    """Whether a child of this process is dead; it is left for the pool to bury."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
