"""RabbitMQ as the tests look into it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

import amqp
from kombu import Connection
from servers import RabbitMQ

from nodes.brokers import SiteBroker, Tap
from nodes.messages import Message
from orchestrator.embedded import NotStarted, Servers

#: Where RabbitMQ reports what is published, once tracing is on (servers/rabbitmq.py).
_TRACE = "amq.rabbitmq.trace"
_MARKS = "traffic-mark"
#: On copies, which the tap must not report.
_COPIED = "nodes-copy"


class AmqpBroker(SiteBroker):
    """Queues; a connection a call, as tests end the broker between two."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def close(self) -> None:
        """Nothing is kept."""

    def flush(self) -> None:
        try:
            node = self._node
        except NotStarted:
            # Somebody else's: it is empty, and not ours to empty.
            return
        node.evaluate('[rabbit_amqqueue:purge(Q) || Q <- rabbit_amqqueue:list(<<"/">>)], ok')

    def length(self, queue: str) -> int:
        with self._channel() as channel:
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except amqp.NotFound:
                return 0

    def unacknowledged(self) -> int:
        return self._node.unacknowledged()

    def disregard(self) -> None:
        """What was with a worker that is dead is back in its queue."""

    def waiting(self, queue: str) -> list[Message]:
        found: list[Message] = []
        with self._channel() as channel:
            try:
                while (message := channel.basic_get(queue)) is not None:
                    found.append(_message(queue, message.body, message.properties))
            except amqp.NotFound:
                return []
        return found  # unacknowledged, they are back in their places once the channel is closed

    def drop(self, queue: str) -> None:
        with self._channel() as channel:
            channel.queue_purge(queue)

    def deliver(self, message: Message, queue: str) -> None:
        with self._channel() as channel:
            channel.basic_publish(_copy(message), routing_key=queue)

    def tap(self) -> Tap:
        return _Firehose(self._servers.broker_url)

    def connections(self) -> Set[str]:
        listed = self._node.evaluate(
            "[binary_to_list(N) || [{name, N}] <- rabbit_networking:connection_info_all([name])]"
        )
        return set(json.loads(listed))

    def cut(self, spared: Set[str]) -> None:
        kept = ", ".join(f'<<"{name}">>' for name in spared)
        each = "[{pid, P}, {name, N}] <- rabbit_networking:connection_info_all([pid, name])"
        self._node.evaluate(
            f'[rabbit_networking:close_connection(P, "cut by a test") || {each}, not lists:member(N, [{kept}])], ok'
        )

    @property
    def _node(self) -> RabbitMQ:
        broker = self._servers.broker
        assert isinstance(broker, RabbitMQ)
        return broker

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with Connection(self._servers.broker_url, connect_timeout=5) as connection:
            yield connection.channel()


class _Firehose(Tap):
    """A queue of what RabbitMQ reports of each message that is published."""

    def __init__(self, url: str) -> None:
        self._connection, self._own = Connection(url), Connection(url)
        channel = self._connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, _TRACE, "publish.#")
        channel.basic_consume(queue, no_ack=True, callback=self._reported)
        self._channel, self._mine = self._own.channel(), threading.Lock()
        self._closed = threading.Event()
        self._reports: list[Message | str] = []

    def read(self) -> Iterator[Message | str]:
        while not self._closed.is_set():
            try:
                self._connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue
            except OSError:
                return
            while self._reports:
                yield self._reports.pop(0)
        self._connection.close()

    def mark(self, text: str) -> None:
        with self._mine:
            self._channel.basic_publish(amqp.Message(text), routing_key=_MARKS)

    def copy(self, message: Message) -> None:
        with self._mine:
            self._channel.basic_publish(_copy(message, {_COPIED: True}), routing_key=message.queue)

    def close(self) -> None:
        self._closed.set()
        self._own.close()

    def _reported(self, report: Any) -> None:
        about = report.properties["application_headers"]
        (key, *_) = about["routing_keys"]
        properties = {
            "application_headers" if name == "headers" else name: v for name, v in about["properties"].items()
        }
        headers = properties.get("application_headers", {})
        if key == _MARKS:
            self._reports.append(_text(report.body))
        elif "task" in headers and _COPIED not in headers:
            self._reports.append(_message(key, report.body, properties))


def _message(queue: str, body: str | bytes, properties: Mapping[str, Any]) -> Message:
    """In the envelope that it has in Redis."""
    others = {name: value for name, value in properties.items() if name != "application_headers"}
    content = {
        "body": base64.b64encode(body.encode() if isinstance(body, str) else body).decode(),
        "headers": properties["application_headers"],
        "properties": others,
    }
    return Message(queue, json.dumps(content).encode())


def _copy(message: Message, headers: Mapping[str, Any] | None = None) -> Any:
    content = message.content
    return amqp.Message(
        base64.b64decode(content["body"]),
        application_headers={**content["headers"], **(headers or {})},
        **content["properties"],
    )


def _text(body: str | bytes) -> str:
    return body if isinstance(body, str) else body.decode()
