"""A node's eye on its own pool: attempts that nobody wants any more are interrupted, hung ones fenced and killed.

In the worker's main process, on a thread of its own: publishing what follows a fenced attempt may wait for the broker,
and the heartbeats, which have their own connection, must not. It looks at those only that stay within one activity from
one look to the next, so that short steps cost nothing here.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.engine.core import Core
from orchestrator.engine.overdue import GRACE, fail_overdue
from orchestrator.ledger import heartbeats
from orchestrator.ledger.heartbeats import Underway
from orchestrator.ledger.timers import Overdue
from orchestrator.runtime.attendance import SIGNAL
from orchestrator.runtime.owner import Node
from orchestrator.runtime.presence import Busy, token_of

logger = logging.getLogger("orchestrator.node")

#: A process that is still within a fenced attempt is killed after so many seconds, in which it may clean up.
KILL_AFTER = 5.0


class Watch:
    """Looks after the processes of a pool.

    Args:
        children: process ids of the live pool children.
    """

    def __init__(self, core: Core, node: Node, children: Callable[[], Sequence[int]]) -> None:
        self._core, self._node, self._children = core, node, children
        self._stopping = threading.Event()
        #: Process id -> what it was inside of at the last look.
        self._before: dict[int, int] = {}
        #: Process id -> the overdue attempt that it is inside of, and since when that is known to be fenced.
        self._fenced: dict[int, tuple[int, float]] = {}

    def start(self) -> None:
        """Begin to look, as often as the node says that it lives."""
        threading.Thread(target=self._look_on, name="orchestrator-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _look_on(self) -> None:
        while not self._stopping.wait(self._core.settings.heartbeat_interval):
            try:
                self.look()
            except Exception as error:
                # Database or broker are away. Nothing is lost: the next look finds the same.
                logger.warning("could not look after the pool", extra={"reason": str(error)})

    def look(self) -> None:
        """One look at the pool."""
        busy = self._node.presence.busy(self._children())
        staying = {pid: found for pid, found in busy.items() if self._before.get(pid) == found.token}
        self._before = {pid: found.token for pid, found in busy.items()}
        self._fenced = {pid: kept for pid, kept in self._fenced.items() if pid in busy and busy[pid].token == kept[0]}
        if not staying:
            return
        with self._core.database.connect() as connection:
            owners = [self._node.owner_of(pid) for pid in staying]
            held = {token_of(found.held): found for found in heartbeats.underway(connection, owners)}
            for pid, found in staying.items():
                self._attend(connection, pid, found, held)

    def _attend(self, connection: Connection, pid: int, busy: Busy, held: Mapping[int, Underway]) -> None:
        underway = held.get(busy.token)
        overdue = busy.deadline is not None and clock.elapsed() > busy.deadline + GRACE
        if overdue:
            if underway is not None and underway.allowed is not None:
                logger.warning("attempt is overdue and fenced", extra={"child": pid, "path": underway.held.path})
                fail_overdue(self._core, connection, Overdue(held=underway.held, allowed=underway.allowed))
                underway = None
            if underway is None and self._outstays(pid, busy):
                return
        if busy.interruptible and (underway is None or underway.unwanted):
            # Only asks it to look: the attempt may just have ended.
            _send(pid, SIGNAL)

    def _outstays(self, pid: int, busy: Busy) -> bool:
        """Kill a process that has not come back from a fenced attempt; whether it had to be. Celery replaces it, and
        it owns nothing else: it has claimed nothing since."""
        _, since = self._fenced.setdefault(pid, (busy.token, clock.elapsed()))
        if clock.elapsed() - since < KILL_AFTER:
            return False
        now = self._node.presence.busy(self._children()).get(pid)
        if now is None or now.token != busy.token:
            return False
        logger.error("a process hangs in an attempt that was fenced, and is killed", extra={"child": pid})
        _send(pid, signal.SIGKILL)
        return True


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it may just have died
        os.kill(pid, number)
