"""Messages of tasks of the application's own that are steps: their own name and queue, and ids only.

Their arguments are in the ledger. In their place the message has what no function can be called with, whatever its
parameters: a worker that has the orchestrator (runtime/task_tracer.py) puts the true ones there, and any other worker
fails before it has called anything. Its failure sends the message's errback, a task of ours, which settles the step.

The id of the Celery task is made of the step: all messages of a step have the same, as those of a task that retries
itself do, and a header that an application copies to other messages of its own does not make them a step's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery

#: The header that names the step: execution, definition and path.
HEADER = "orchestrator"
#: Our task that settles a step whose message was refused, with the reason as its last argument.
REFUSED_TASK = "orchestrator.refused"
#: Most characters of what Flower shows in the place of arguments.
SHOWN = 200
#: Why: by a worker without the orchestrator; by one without the task; by `revoke`.
UNINITIALISED, UNKNOWN, REVOKED = "uninitialised", "unknown", "revoked"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRef:
    """Which step a message is for."""

    execution_id: str
    definition_id: str
    path: str

    @property
    def task_id(self) -> str:
        """The id of the Celery task."""
        return str(uuid.uuid5(uuid.UUID(self.execution_id), f"task {self.path}"))

    @classmethod
    def of(cls, headers: Mapping[str, Any], task_id: str) -> StepRef | None:
        """The step that a message is for; None for all messages that are no step's."""
        match headers.get(HEADER):
            case [str(execution_id), str(definition_id), str(path)]:
                found = cls(execution_id=execution_id, definition_id=definition_id, path=path)
            case _:
                return None
        try:
            return found if found.task_id == task_id else None
        except ValueError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTask:
    """A message to be published."""

    task: str
    queue: str
    step: StepRef


def route(app: Celery, task: str) -> str:
    """The queue that the application sends a task to, as far as this process knows: by the task's own option, by
    `task_routes`, or its default queue."""
    registered = app.tasks.get(task)
    own = getattr(registered, "queue", None)
    found = app.amqp.router.route({"queue": own} if own else {}, task, task_type=registered).get("queue")
    return str(getattr(found, "name", found) or app.conf.task_default_queue)


def send(app: Celery, producer: Any, message: OwnTask, refusals: str) -> None:
    """Hand a message to the broker. Celery's own sender would hold the arguments against the task's parameters.

    Args:
        refusals: the queue of the errback.
    """
    step = message.step
    ids = [step.execution_id, step.definition_id, step.path]
    errback = {
        "task": REFUSED_TASK,
        "args": [*ids, UNINITIALISED],
        "kwargs": {},
        "options": {"queue": refusals},
        "subtask_type": None,
        "immutable": True,
    }
    made = app.amqp.as_task_v2(
        step.task_id,
        message.task,
        callbacks=None,
        errbacks=[errback],
        # Of a process that dies in the midst nothing is to be stored: the step goes on. Our tracer takes it away.
        ignore_result=True,
        argsrepr="<in the ledger; a worker without the orchestrator's init_app refuses this>",
        kwargsrepr=f"<step {step.path} of {step.execution_id}>"[:SHOWN],
        create_sent_event=app.conf.task_send_sent_event,
    )
    headers = {**made.headers, HEADER: ids}
    _, _, embedded = made.body
    app.amqp.send_task_message(
        producer,
        message.task,
        made._replace(headers=headers, body=(None, {}, embedded)),
        queue=message.queue,
        serializer="json",
        retry=False,
        **_priority(app, message.task),
    )


def _priority(app: Celery, task: str) -> dict[str, int]:
    priority = getattr(app.tasks.get(task), "priority", None)
    return {} if priority is None else {"priority": priority}
