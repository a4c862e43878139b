"""What the publisher does when RabbitMQ goes away, falls silent, takes nothing, or has lost a queue: it never raises,
says what was not taken, and gives nobody's connection up but its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import amqp
import pytest
from kombu import Connection
from nodes.waiting import eventually
from servers import RabbitMQ

from orchestrator.application import own_app
from orchestrator.compiler.plan import Chain, Plan, Segment
from orchestrator.config import load
from orchestrator.dispatch.confirms import PATIENCE
from orchestrator.dispatch.publish import Planned, Publisher
from orchestrator.embedded import Servers

#: Of a publish that waits for nothing, in seconds.
AT_ONCE = 2.0


@pytest.fixture
def rabbitmq(servers: Servers) -> RabbitMQ:
    assert isinstance(servers.broker, RabbitMQ)
    return servers.broker


@pytest.fixture
def queue() -> str:
    return f"unconsumed-{uuid4().hex[:8]}"


@pytest.fixture
def publisher(rabbitmq: RabbitMQ) -> Iterator[Publisher]:
    app = own_app(load(broker_url=rabbitmq.url))
    yield Publisher(app)
    app.close()


def planned(queue: str, messages: int = 1) -> list[Planned]:
    chains = tuple(Chain(segments=(Segment(paths=("only",), queue=queue),)) for _ in range(messages))
    return [Planned(execution_ids=("e",), definition_id="d", plan=Plan(parts=chains))]


def length(rabbitmq: RabbitMQ, queue: str) -> int:
    with Connection(rabbitmq.url) as connection:
        try:
            return int(connection.channel().queue_declare(queue, passive=True).message_count)
        except amqp.NotFound:
            return 0


def names(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.evaluate("lists:sort([N || [{name, N}] <- rabbit_networking:connection_info_all([name])])")


@contextmanager
def silent(rabbitmq: RabbitMQ) -> Iterator[None]:
    """The broker's kernel takes what is sent, and nobody answers: as behind a half-open connection."""
    pid = rabbitmq.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    # Each of its threads stops when it comes to it: until then one may still answer.
    threads = [each / "status" for each in Path(f"/proc/{pid}/task").iterdir()]
    eventually(lambda: all("State:\tT" in thread.read_text() for thread in threads), "all of it stands")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def full(rabbitmq: RabbitMQ) -> Iterator[None]:
    """Its memory is used up: it reads no more from connections that publish."""
    rabbitmq.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")
    # The alarm is told to each connection by a message, behind which what the next one publishes could be.
    state = "rabbit_networking:connection_info_all([state])"
    eventually(lambda: "running" not in rabbitmq.evaluate(state), "every connection knows")
    try:
        yield
    finally:
        rabbitmq.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")


def took(publisher: Publisher, plans: list[Planned]) -> tuple[bool, float]:
    begun = time.monotonic()
    return publisher.publish(plans), time.monotonic() - begun


def test_what_is_published_is_in_the_queue_however_much_it_is(
    rabbitmq: RabbitMQ, publisher: Publisher, queue: str
) -> None:
    assert publisher.publish(planned(queue))
    assert length(rabbitmq, queue) == 1
    assert publisher.publish(planned(queue, 1200))
    assert length(rabbitmq, queue) == 1201


def test_a_connection_closed_behind_its_back_is_replaced(rabbitmq: RabbitMQ, publisher: Publisher, queue: str) -> None:
    assert publisher.publish(planned(queue))
    before = names(rabbitmq)
    each = "[{pid, P}] <- rabbit_networking:connection_info_all([pid])"
    rabbitmq.evaluate(f'[rabbit_networking:close_connection(P, "idle") || {each}], ok')
    done, seconds = took(publisher, planned(queue, 3))
    assert (done, seconds < AT_ONCE) == (True, True)
    assert length(rabbitmq, queue) == 4
    assert names(rabbitmq) != before


def test_a_queue_that_somebody_has_deleted_is_made_again(rabbitmq: RabbitMQ, publisher: Publisher, queue: str) -> None:
    assert publisher.publish(planned(queue))
    with Connection(rabbitmq.url) as connection:
        connection.channel().queue_delete(queue)
    assert publisher.publish(planned(queue, 2))
    # The first one was found unroutable together with the second, and both were sent again.
    assert length(rabbitmq, queue) == 2


@pytest.mark.parametrize("trouble", [silent, full])
def test_a_broker_that_takes_nothing_holds_a_caller_no_longer_than_its_patience(
    rabbitmq: RabbitMQ, publisher: Publisher, queue: str, trouble: type
) -> None:
    assert publisher.publish(planned(queue))
    with trouble(rabbitmq):
        done, seconds = took(publisher, planned(queue))
        assert not done
        assert PATIENCE - 1 < seconds < PATIENCE + AT_ONCE
    done, seconds = took(publisher, planned(queue))
    assert (done, seconds < AT_ONCE) == (True, True)


def test_a_broker_that_is_away_costs_no_time_and_is_used_again_at_once(
    rabbitmq: RabbitMQ, publisher: Publisher, queue: str
) -> None:
    assert publisher.publish(planned(queue))
    rabbitmq.kill()
    done, seconds = took(publisher, planned(queue))
    assert (done, seconds < AT_ONCE) == (False, True)
    begun = time.monotonic()
    publisher.sweep("timers", queue, 5)
    publisher.probe(1, queue)
    assert time.monotonic() - begun < AT_ONCE
    rabbitmq.restart()
    assert publisher.publish(planned(queue))
    assert length(rabbitmq, queue) == 2
