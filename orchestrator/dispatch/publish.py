"""The only publisher. It publishes what is committed; what it cannot publish, the sweeps will.

A publish never raises for a broker that is away: the ready rows are the outbox, so nothing is lost but time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from celery import Celery, uuid
from celery.canvas import Signature

from orchestrator.compiler.plan import Chord, Plan
from orchestrator.dispatch import brokers, own_task
from orchestrator.dispatch.brokers import BROKER_ERRORS
from orchestrator.dispatch.canvas import canvas, is_chord
from orchestrator.dispatch.confirms import batch_confirmed
from orchestrator.dispatch.own_task import REFUSED_TASK, OwnTask, StepRef
from orchestrator.errors import BrokerUnavailable

logger = logging.getLogger("orchestrator.publish")

#: Messages that one round trip to the broker carries.
BATCH = 500
PROBE_TASK = "orchestrator.probe"
SWEEP_TASK = "orchestrator.sweep"


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A plan and the executions that it is for."""

    #: Usually one; several share a message (dispatch/bundle.py).
    execution_ids: tuple[str, ...]
    definition_id: str
    plan: Plan


class Publisher:
    """Hands canvases to the broker.

    Args:
        default_queue: the queue of what concerns no one step's workers.
    """

    def __init__(self, app: Celery, default_queue: str = "orchestrator") -> None:
        self._app, self._default_queue = app, default_queue

    def route(self, task: str) -> str:
        """The queue that the application itself sends a task of its own to."""
        return own_task.route(self._app, task)

    def publish(self, plans: Sequence[Planned]) -> bool:
        """Publish every part of the plans, many messages a round trip; False when the broker did not take them."""
        messages = sum(_messages(planned.plan) for planned in plans)
        if not messages:
            return True

        def send(producer: Any) -> None:
            for planned in plans:
                for part in canvas(self._app, planned.plan, planned.execution_ids, planned.definition_id):
                    self._send(part, producer)

        try:
            self._hand_over(send, messages)
        except BROKER_ERRORS as error:
            logger.warning(
                "broker did not take messages; sweeps publish them when it is back",
                extra={"messages": messages, "reason": str(error)},
            )
            return False
        return True

    def probe(self, probe_id: int, queue: str) -> None:
        """Send a probe behind everything in a queue: at the lowest priority of anything in it."""
        self._quietly(PROBE_TASK, (probe_id,), queue=queue, priority=brokers.lowest_priority(self._app))

    def sweep(self, name: str, queue: str, expires: float) -> None:
        """Ask a worker to sweep; worthless after `expires` seconds, when the next one is due."""
        self._quietly(SWEEP_TASK, (name,), queue=queue, expires=expires)

    def refused(self, step: StepRef, reason: str) -> None:
        """Have a step settled whose message, a task of the application's own, no worker will call."""
        arguments = (step.execution_id, step.definition_id, step.path, reason)
        self._quietly(REFUSED_TASK, arguments, queue=self._default_queue)

    def ping(self) -> None:
        """One round trip to the broker; BrokerUnavailable when there is no answer."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(
                f"no broker at {self._app.connection_for_write().as_uri()}: {error}; "
                "check ORCHESTRATOR_BROKER_URL and that the server is up"
            ) from None

    def _send(self, part: Signature | OwnTask, producer: object) -> None:
        """A chord's header goes out message by message: Celery's own sender would also write a counter to the
        application's result backend, and drops the producer that batches."""
        if isinstance(part, OwnTask):
            own_task.send(self._app, producer, part, self._default_queue)
            return
        if not is_chord(part):
            part.apply_async(producer=producer, retry=False)
            return
        group = uuid()
        for header in part.tasks:
            header.apply_async(producer=producer, add_to_parent=False, chord=part.body, group_id=group, retry=False)

    def _quietly(self, task: str, arguments: tuple[object, ...], **options: object) -> None:
        signature = self._app.signature(task, args=arguments, immutable=True)
        try:
            self._hand_over(lambda producer: signature.apply_async(producer=producer, retry=False, **options))
        except BROKER_ERRORS as error:
            logger.warning("broker did not take a message", extra={"task": task, "reason": str(error)})

    def _hand_over(self, send: Callable[[Any], object], messages: int = 1) -> None:
        """Send messages, all of which the broker has when this returns.

        RabbitMQ closes the connection of a process that sends nothing for some minutes, as nobody answers for its
        heartbeats there, and Celery notices with the next message. So whatever fails on a connection that was there
        before is sent once more on a new one: a message that then comes twice does no harm. What has cost the patience
        of a caller already is not; nor is it on Redis, whose client does so itself.
        """
        with self._app.producer_or_acquire() as producer:
            connection = producer.connection
            # Left to itself, kombu tries for 6 s to reach a broker that is away, and the caller's own request waits.
            connection.ensure_connection(max_retries=0)
            if not brokers.speaks_amqp(connection):
                with producer.batch(BATCH) if messages > 1 else nullcontext():
                    send(producer)
                return
            try:
                _send_confirmed(producer, send)
            except BROKER_ERRORS as error:
                if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
                    raise
                connection.ensure_connection(max_retries=0)
                producer.revive(connection)
                _send_confirmed(producer, send)


class SilentPublisher(Publisher):
    """Says nothing: what there is to publish is left to the sweeps.

    Args:
        like: whose application and queues it knows.
    """

    def __init__(self, like: Publisher) -> None:
        super().__init__(like._app, like._default_queue)

    def publish(self, plans: Sequence[Planned]) -> bool:
        """Nothing is published."""
        return not plans

    def _quietly(self, task: str, arguments: tuple[object, ...], **options: object) -> None:
        return


def _send_confirmed(producer: Any, send: Callable[[Any], object]) -> None:
    """Send over a connection that is given up if that ends by any error: nobody could tell what it still carries."""
    batch_confirmed(producer)
    try:
        with producer.batch(BATCH):
            send(producer)
    except BaseException:
        producer.connection.collect()
        raise


def _messages(plan: Plan) -> int:
    return sum(len(part.header) if isinstance(part, Chord) else 1 for part in plan.parts)
