"""Where Celery's worker lets us in: its bootsteps and process signals."""

from __future__ import annotations

import atexit
import ctypes
import gc
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard.process import current_process
from celery import Celery, bootsteps, signals
from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.concurrency.solo import TaskPool as SoloPool
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.dispatch.brokers import speaks_amqp
from orchestrator.ledger import owners
from orchestrator.runtime.farewell import await_children
from orchestrator.runtime.node import NodeLife, Surroundings
from orchestrator.runtime.owner import Node
from orchestrator.runtime.watch import Watch
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.node")

#: How often the pool is asked for dead children, in seconds. Left to itself, Celery may notice after 5 s.
POOL_CHECK = 0.05
#: Seconds between a worker's attempts to reach a broker that is away. Left to itself, Celery waits for 2 s longer each
#: time, up to 32 s, and so long is nothing done once the broker is back.
RECONNECT = 2.0
_PR_SET_PDEATHSIG = 1


def install(
    app: Celery, worker: Callable[[], Worker], prepare: Callable[[int], None], ready: Callable[[], None]
) -> None:
    """Make an application's workers nodes of ours.

    Args:
        worker: gives the process's parts.
        prepare: called in the main process before the pool forks, with the number of steps that one process will work
            on at a time; raises what must keep the worker from starting.
        ready: called once the node is registered.
    """

    class NodeStep(bootsteps.StartStopStep):
        """Registers the node and keeps it alive."""

        requires = ("celery.worker.components:Pool",)

        def __init__(self, parent: Any, **kwargs: Any) -> None:
            prepare(_at_once(parent))
            # Children must not inherit connections.
            worker().forget_connections()
            # Nor go through what the parent has made until now, at each fork and in each collection.
            gc.collect()
            gc.freeze()
            self._life: NodeLife | None = None
            self._pid = os.getpid()
            super().__init__(parent, **kwargs)

        def start(self, parent: Any) -> None:
            self._life = parent.orchestrator_life = _life(worker(), parent, _surroundings(app, parent))
            self._life.start()
            await_children(getattr(parent.pool, "_pool", None))
            _drain_first(parent, worker().node)
            # Both come after the pool has ended, so nothing is held any more, or never will be: the signal after a
            # warm shutdown, the exit after a cold one. Steps are stopped too early for that.
            signals.worker_shutdown.connect(lambda **_: self._goodbye(), weak=False)
            atexit.register(self._goodbye)
            ready()

        def _goodbye(self) -> None:
            life, self._life = self._life, None
            if life is not None and os.getpid() == self._pid:
                worker().logs.flush()
                life.stop()

    app.steps["worker"].add(NodeStep)
    app.steps["consumer"].add(PoolStep)
    app.steps["consumer"].add(LostConnection)
    app.steps["consumer"].add(Reconnection)
    signals.worker_process_init.connect(lambda **_: _child_starts(worker()), weak=False)
    signals.worker_process_shutdown.connect(lambda **_: worker().logs.flush(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: worker().node.drain(), weak=False)


class PoolStep(bootsteps.StartStopStep):
    """Watches the pool from the event loop.

    A step of the consumer, not of the worker: each time that the broker is lost, Celery forgets every timer, hooks its
    own functions into the pool anew, and starts the consumer's steps once more.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._timer: Any = None
        #: Queues that are not consumed while the node drains; Celery remembers it over a lost connection.
        self._given_up: tuple[str, ...] = ()
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        if parent.hub is not None:
            self._timer = parent.hub.call_repeatedly(POOL_CHECK, self._check, parent)

    def _check(self, parent: Any) -> None:
        life: NodeLife = parent.controller.orchestrator_life
        # The dead first: maintaining the pool forks their successors, which takes its time.
        life.watch_children()
        pool = getattr(parent.pool, "_pool", None)
        if hasattr(pool, "on_process_down"):
            _report_deaths(pool, life)
        if pool is not None and hasattr(pool, "maintain_pool"):
            pool.maintain_pool()
        self._heed(parent, life.drained)

    def _heed(self, parent: Any, drained: bool) -> None:
        """Stop consuming while the node is to take up no more."""
        if drained and not self._given_up:
            self._given_up = tuple(parent.app.amqp.queues.consume_from)
            for queue in self._given_up:
                parent.cancel_task_queue(queue)
            logger.warning("the node drains: it takes up no more", extra={"queues": list(self._given_up)})
        elif self._given_up and not drained:
            queues = parent.app.amqp.queues
            for queue in self._given_up:
                # Celery itself would consume it now, but not after the next lost connection.
                queues.select_add(queues[queue])
                parent.add_task_queue(queue)
            logger.warning("the node takes up steps again", extra={"queues": list(self._given_up)})
            self._given_up = ()

    def stop(self, parent: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def terminate(self, parent: Any) -> None:
        self.stop(parent)


class LostConnection(bootsteps.StartStopStep):
    """Drops what else went over a broker's lost connection: Celery would take leave of a half-open one, and wait for
    RabbitMQ's answer for ever."""

    requires = ("celery.worker.consumer.events:Events",)

    def stop(self, parent: Any) -> None:
        events = parent.event_dispatcher
        lost = parent.connection is None or not parent.connection.connected
        if lost and events is not None and speaks_amqp(events.connection):
            events.connection.collect()


class Reconnection(bootsteps.Step):
    """Asks for a broker that is away every `RECONNECT` seconds; Celery has no setting for it. An application that says
    how often to ask before the worker ends has Celery's own waits in mind, and keeps them."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        ensure = parent.ensure_connected

        def ensure_connected(connection: Any) -> Any:
            evenly = {"interval_start": RECONNECT, "interval_step": 0, "interval_max": RECONNECT}
            if parent.app.conf.broker_connection_max_retries is None:
                connection.ensure_connection = partial(connection.ensure_connection, **evenly)
            return ensure(connection)

        parent.ensure_connected = ensure_connected
        super().__init__(parent, **kwargs)


def _drain_first(parent: Any, node: Node) -> None:
    """Have the node drain at the beginning of a cold shutdown.

    Celery tells of one (`worker_shutting_down`) only once it has waited for `worker_soft_shutdown_timeout` and ended
    the pool: until then segments would go on with their next steps, and each child that is ended would count as a
    death.
    """
    wait = parent.wait_for_soft_shutdown

    def drain_and_wait() -> None:
        node.drain()
        wait()

    parent.wait_for_soft_shutdown = drain_and_wait


def _life(worker: Worker, parent: Any, around: Surroundings) -> NodeLife:
    """Of a node whose pool has processes to look after, or works in threads of its own."""
    if issubclass(parent.pool_cls, ProcessPool):
        watch = Watch(worker.core, worker.node, around.children)
        return NodeLife(worker.core, worker.node, around, worker.beats, watch)
    worker.logs.install()
    # Beside a single step there is always one to be had soon: two are enough for the process.
    beats = worker.beats if _at_once(parent) > 1 else worker.core.database
    return NodeLife(worker.core, worker.node, around, beats)


def _at_once(parent: Any) -> int:
    """How many steps one process of the pool works on at a time."""
    return 1 if issubclass(parent.pool_cls, ProcessPool | SoloPool) else int(parent.concurrency)


def _report_deaths(pool: Any, life: NodeLife) -> None:
    """Have the pool tell of every child that it buries: one may be forked and die between two looks at the list."""
    told = pool.on_process_down
    if getattr(told, "reports_deaths", False):
        return

    def report(process: Any) -> None:
        life.child_died(process.pid)
        if told:
            told(process)

    report.reports_deaths = True  # type: ignore[attr-defined]
    pool.on_process_down = report


def _surroundings(app: Celery, parent: Any) -> Surroundings:
    def children() -> list[int]:
        pool = getattr(parent.pool, "_pool", None)
        found = getattr(pool, "_pool", None) or ()
        return [child.pid for child in found if child.pid and child.exitcode is None]

    return Surroundings(name=parent.hostname, children=children, queues=lambda: list(app.amqp.queues.consume_from))


def _child_starts(worker: Worker) -> None:
    """A pool child begins: it dies with its parent, has connections of its own, and holds nothing yet."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    worker.forget_connections(close=False)
    worker.logs.install()
    worker.attendance.listen(getattr(current_process(), "index", -1))
    try:
        with worker.core.database.connect() as connection:
            # Process ids come again: whatever an earlier one of this name held is not ours. Released in any case, as
            # one that is left with this name would count as ours; the next death fails it.
            owners.release(connection, worker.node.owner(), whole=True)
    except SQLAlchemyError as error:
        logger.warning("child starts without the database", extra={"reason": str(error)})
