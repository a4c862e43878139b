"""Our Celery task that runs segments, registered with an application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore

from orchestrator.dispatch.canvas import SEGMENT_TASK, label
from orchestrator.engine.advance import publish_ready
from orchestrator.ledger import database, joins
from orchestrator.model.identity import undone_path
from orchestrator.runtime.backend import LedgerBackend
from orchestrator.runtime.link import Link
from orchestrator.runtime.segment import Message, Segment
from orchestrator.runtime.undo import undo
from orchestrator.runtime.worker import Worker

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
    def segment(task: Any, execution_id: str, definition_id: str, head: str) -> bool:
        message = Message(
            execution_id=execution_id,
            definition_id=definition_id,
            head=head,
            chained=bool(task.request.chain),
            in_chord=bool(task.request.chord),
        )
        goes_on, found_done = work(worker(), message)
        if not goes_on and (message.chained or found_done):
            # Celery would publish the chain's next segment, which is not ready. Duplicates die here too.
            raise Ignore
        return found_done


def work(worker: Worker, message: Message) -> tuple[bool, bool]:
    """Work on a segment: whether its canvas goes on, and whether there was nothing to do but that."""
    link = Link(worker.core.database)
    try:
        graph = link.call(lambda connection: worker.core.graphs.get(connection, message.definition_id))
        if undone_path(message.head) is not None:
            return undo(worker, link, graph, message), False
        segment = Segment(worker, link, graph, message)
        return segment.work(), segment.found_done
    finally:
        link.close()


def _backend(app: Celery, worker: Callable[[], Worker]) -> LedgerBackend:
    def join_chord(execution_id: str, definition_id: str, head: str, found_done: bool) -> None:
        core = worker().core

        def join() -> bool:
            with core.database.connect() as connection:
                core.graphs.get(connection, definition_id)
                # A header that found its work done may stand for one that died between making the join ready and
                # publishing its body.
                return joins.join(connection, execution_id, head) or (
                    found_done and joins.unclaimed(connection, execution_id, head)
                )

        if database.persist(join, give_up_after=JOIN_PATIENCE):
            graph = core.graphs.cached(definition_id)
            if graph is not None:
                publish_ready(core, graph, definition_id, execution_id, [head])

    return LedgerBackend(app, join_chord)


def _label(worker: Worker, args: Any) -> str | None:
    _execution_id, definition_id, head = args
    graph = worker.core.graphs.cached(definition_id)
    if graph is None:
        return None
    return label(graph.name, (head,) if undone_path(head) is not None else graph.segment(head))
