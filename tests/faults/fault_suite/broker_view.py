"""The broker as the suite looks into it: how much waits, how much is with workers, and forgetting all of it."""

from __future__ import annotations

from typing import Protocol

from redis import Redis
from servers import RabbitMQ
from servers.redis_server import RedisServer

from orchestrator.embedded.server import Server

#: Kombu's separator between a queue's name and a priority.
_PRIORITY = "\x06\x16"
#: The priorities that kombu keeps apart in Redis, 0 apart.
_STEPS = (3, 6, 9)


class BrokerView(Protocol):
    """What the suite asks of a broker."""

    def length(self, queue: str) -> int:
        """Messages that wait in a queue."""

    def unacknowledged(self) -> int:
        """Messages that are with workers."""

    def empty(self) -> None:
        """Forget everything that waits, and on Redis also what is with workers."""


def view(broker: Server | None) -> BrokerView:
    """Of the broker that a stack has; under Sentinels nothing is looked into."""
    return _RabbitView(broker) if isinstance(broker, RabbitMQ) else _RedisView(broker)


class _RedisView:
    def __init__(self, broker: Server | None) -> None:
        self._broker = broker

    def _client(self) -> Redis:
        assert self._broker is not None
        # By TLS, whose authority only the server knows.
        return self._broker.client() if isinstance(self._broker, RedisServer) else Redis.from_url(self._broker.url)

    def length(self, queue: str) -> int:
        with self._client() as redis:
            names = [queue, *(f"{queue}{_PRIORITY}{step}" for step in _STEPS)]
            return sum(int(redis.llen(name)) for name in names)

    def unacknowledged(self) -> int:
        with self._client() as redis:
            return int(redis.hlen("unacked"))

    def empty(self) -> None:
        with self._client() as redis:
            redis.flushall()


class _RabbitView:
    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker

    def length(self, queue: str) -> int:
        name = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
        asked = (
            f"case rabbit_amqqueue:lookup({name}) of {{ok, Q}} -> "
            "proplists:get_value(messages_ready, rabbit_amqqueue:info(Q, [messages_ready])); _ -> 0 end"
        )
        return int(self._broker.evaluate(asked))

    def unacknowledged(self) -> int:
        return self._broker.unacknowledged()

    def empty(self) -> None:
        self._broker.evaluate('[rabbit_amqqueue:purge(Q) || Q <- rabbit_amqqueue:list(<<"/">>)], ok')
