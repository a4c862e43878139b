"""Lets an application's workers call its own tasks as steps, and settles the steps whose messages nobody calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import TimeLimitExceeded

from orchestrator.dispatch.canvas import SEGMENT_TASK
from orchestrator.dispatch.own_task import HEADER, REFUSED_TASK, REVOKED, UNINITIALISED, UNKNOWN, StepRef
from orchestrator.engine.mend import fail_attempt
from orchestrator.ledger import database, lost_replies
from orchestrator.model.outcome import Failure, classes_of
from orchestrator.runtime.holding import holding
from orchestrator.runtime.message import Message
from orchestrator.runtime.task_steps import RefusedStep
from orchestrator.runtime.task_tracer import stand_before
from orchestrator.runtime.tasks import OPTIONS
from orchestrator.runtime.worker import Worker

logger = logging.getLogger("orchestrator.task")

#: How long the main process waits for the database before it kills, in seconds.
KILL_PATIENCE = 1.0
#: Tasks with these names are no application's own.
_OTHERS = ("celery.", "orchestrator.")

_FAILURES = {
    UNINITIALISED: Failure(
        category="system",
        name="TaskRefused",
        message="a worker without the orchestrator got the task's message and refused it; nothing of the task was "
        "called. Have init_app called with the Celery application of every worker that consumes its queue",
        classes=("TaskRefused",),
    ),
    UNKNOWN: Failure(
        category="system",
        name="UnknownTask",
        message="a worker that consumes the task's queue does not know the task. Have its workers import the task's "
        "module, or give the step the queue of workers that do",
        classes=("UnknownTask",),
    ),
    REVOKED: Failure(
        category="cancelled",
        name="TaskRevoked",
        message="the task was revoked, or has expired",
        classes=("TaskRevoked",),
    ),
}


def register(app: Celery, worker: Callable[[], Worker]) -> None:
    """Make an application's workers call its own tasks as steps.

    Args:
        worker: gives the process's parts; first called when a step is met.
    """

    @app.task(name=REFUSED_TASK, backend=app.tasks[SEGMENT_TASK].backend, typing=False, **OPTIONS)
    def refused(execution_id: str, definition_id: str, path: str, reason: str) -> None:
        settle_refused(worker(), StepRef(execution_id=execution_id, definition_id=definition_id, path=path), reason)

    def wrap(**_: Any) -> None:
        for name, task in app.tasks.items():
            if not name.startswith(_OTHERS):
                stand_before(task, worker)

    class TracerStep(bootsteps.StartStopStep):
        """Comes after each making of the tracers in the worker's own process, which thread pools work in."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            wrap()

    app.steps["consumer"].add(TracerStep)
    # And after their making in a pool's child.
    signals.worker_process_init.connect(wrap, weak=False)
    _listen(app, worker)


def settle_refused(worker: Worker, step: StepRef, reason: str) -> None:
    """Settle a step that is ready, if it still is, as an attempt that failed."""
    message = Message(execution_id=step.execution_id, definition_id=step.definition_id, head=step.path)
    with holding(worker) as link:
        graph = link.call(lambda connection: worker.core.graphs.get(connection, step.definition_id))
        RefusedStep(worker, link, graph, message, _FAILURES.get(reason, _FAILURES[UNINITIALISED])).work()


def settle_killed(worker: Worker, step: StepRef, pid: int, limit: float) -> None:
    """Settle the attempt of a process that Celery is about to kill at its task's hard limit.

    Called in the main process, which must not wait: without the database the process is a dead owner like any other.
    """
    message = f"the task took more than its hard time limit of {limit:g} s, and its process was killed"
    classes = classes_of(TimeLimitExceeded)
    failure = Failure(category="timeout", name="TimeLimitExceeded", message=message, classes=classes)

    def settle() -> None:
        with worker.core.database.connect() as connection:
            for held in lost_replies.owned(connection, step.execution_id, worker.node.owner_of(pid)):
                fail_attempt(worker.core, connection, held, failure)

    database.persist(settle, give_up_after=KILL_PATIENCE)


def _settling(worker: Callable[[], Worker], step: StepRef, request: Any) -> Callable[[bool, float], None]:
    """What a request does at a time limit, and the settle before the kill at the hard one."""
    original = request.on_timeout

    def on_timeout(soft: bool, timeout: float) -> None:
        original(soft, timeout)
        if not soft and request.worker_pid:
            try:
                settle_killed(worker(), step, request.worker_pid, timeout)
            except Exception:
                logger.exception("a killed attempt is left to the release", extra={"step": step.path})

    return on_timeout


def _listen(app: Celery, worker: Callable[[], Worker]) -> None:
    """To what Celery's main process does with messages before any of our code gets them."""

    def received(request: Any = None, **_: Any) -> None:
        """A worker with the orchestrator refuses nothing: of a child that dies in the midst the step goes on."""
        if request.app is not app or HEADER not in request.request_dict:
            return
        *_rest, embedded = request._payload
        embedded["errbacks"] = None
        step = StepRef.of(request.request_dict, request.id)
        if step is not None:
            request.on_timeout = _settling(worker, step, request)

    def unknown(sender: Any = None, message: Any = None, id: str = "", **_: Any) -> None:  # noqa: A002 - Celery's word
        _refuse(sender.app, message.headers or {}, id, UNKNOWN)

    def revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
        _refuse(sender.app, vars(request), request.id, REVOKED)

    def _refuse(sender: Celery, headers: Any, task_id: str, reason: str) -> None:
        step = StepRef.of(headers, task_id) if sender is app else None
        if step is not None:
            logger.warning("a step's message is refused", extra={"step": step.path, "reason": reason})
            worker().core.publisher.refused(step, reason)

    signals.task_received.connect(received, weak=False)
    signals.task_unknown.connect(unknown, weak=False)
    signals.task_revoked.connect(revoked, weak=False)
