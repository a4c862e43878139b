"""Our Celery task that runs segments, registered with an application."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore

from orchestrator import clock, fault_points
from orchestrator.dispatch.canvas import SEGMENT_TASK, SEPARATOR, label
from orchestrator.engine.advance import publish_ready
from orchestrator.engine.mend import end_of_header
from orchestrator.ledger import database
from orchestrator.model.identity import undone_path
from orchestrator.runtime.backend import LedgerBackend
from orchestrator.runtime.holding import holding
from orchestrator.runtime.message import Message
from orchestrator.runtime.segment import Segment
from orchestrator.runtime.undo import undo
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.segment")

#: How long a header's return may wait for the database, in seconds; then the join is left to the sweep.
JOIN_PATIENCE = 5.0
#: Celery's retry, errbacks, ETA and countdown are not used: the ledger's timers and states are.
OPTIONS: dict[str, Any] = {
    "acks_late": True,
    # A child killed before its claim leaves nothing to release: only its message comes back.
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "max_retries": 0,
    "serializer": "json",
    "shared": False,
}


def register(app: Celery, worker: Callable[[], Worker]) -> None:
    """Add the segment task to an application.

    Args:
        worker: gives the process's parts; first called when a task or a publish needs them.
    """

    class SegmentTask(Task):
        """Names each message by what it will do, for Flower and the logs."""

        typing = False

        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            name = _label(worker(), args)
            if name is not None:
                options.setdefault("shadow", name)
            options.setdefault("argsrepr", name or repr(args))
            options.setdefault("kwargsrepr", "{}")
            if options.get("chain"):
                # The rest of a chain travels in each of its messages, and is the same text over and over.
                options.setdefault("compression", "zlib")
            return super().apply_async(args, kwargs, **options)

    @app.task(name=SEGMENT_TASK, base=SegmentTask, bind=True, backend=_backend(app, worker), **OPTIONS)
    def segment(task: Any, executions: str, definition_id: str, head: str) -> bool:
        execution_id, *others = executions.split(SEPARATOR)
        message = Message(
            execution_id=execution_id,
            definition_id=definition_id,
            head=head,
            chained=bool(task.request.chain),
            chord_body=task.request.chord["args"][2] if task.request.chord else None,
        )
        if others:
            work_on_bundle(worker(), message, others)
            fault_points.reach(fault_points.PUBLISHED, execution_id, head)
            return False
        goes_on, found_done = work(worker(), message)
        fault_points.reach(fault_points.PUBLISHED, execution_id, head)
        if not goes_on and (message.chained or found_done):
            # Celery would publish the chain's next segment, which is not ready. Duplicates die here too.
            raise Ignore
        return found_done


def work(worker: Worker, message: Message) -> tuple[bool, bool]:
    """Work on a segment: whether its canvas goes on, and whether there was nothing to do but that."""
    with holding(worker) as link:
        graph = link.call(lambda connection: worker.core.graphs.get(connection, message.definition_id))
        if undone_path(message.head) is not None:
            return undo(worker, link, graph, message), False
        segment = Segment(worker, link, graph, message)
        return segment.work(), segment.found_done


def work_on_bundle(worker: Worker, message: Message, others: Sequence[str]) -> None:
    """Work on the same segment of several executions, as long as the budget lasts; publish the rest for all to take.

    One that fails by a fault of ours keeps none of the others from their turn. If this process dies, the message comes
    back, and finds what was done by then.
    """
    waiting = deque([message.execution_id, *others])
    deadline = clock.elapsed() + worker.core.settings.segment_budget
    while waiting:
        try:
            work(worker, replace(message, execution_id=waiting.popleft()))
        except Exception:
            logger.exception("a bundle's execution is left to the sweeps")
        if waiting and (worker.node.draining or clock.elapsed() > deadline):
            graph = worker.core.graphs.cached(message.definition_id)
            if graph is not None:
                for execution_id in waiting:
                    publish_ready(worker.core, graph, message.definition_id, execution_id, [message.head])
            return


def _backend(app: Celery, worker: Callable[[], Worker]) -> LedgerBackend:
    def join_chord(execution_id: str, definition_id: str, head: str, found_done: bool) -> None:
        core = worker().core

        def join() -> list[str]:
            with core.database.connect() as connection:
                return end_of_header(core, connection, execution_id, definition_id, body=head, found_done=found_done)

        ready = database.persist(join, give_up_after=JOIN_PATIENCE)
        graph = core.graphs.cached(definition_id)
        if ready and graph is not None:
            publish_ready(core, graph, definition_id, execution_id, ready)

    return LedgerBackend(app, join_chord)


def _label(worker: Worker, args: Any) -> str | None:
    executions, definition_id, head = args
    graph = worker.core.graphs.cached(definition_id)
    if graph is None:
        return None
    name = label(graph.name, (head,) if undone_path(head) is not None else graph.segment(head))
    count = executions.count(SEPARATOR) + 1
    return name if count == 1 else f"{name} (x {count})"
