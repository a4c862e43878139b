"""The broker as the suite looks into it: how much waits, how much is with workers, and forgetting all of it."""

from __future__ import annotations

from typing import Protocol

from redis import Redis
from servers import RabbitMQ
from servers.redis_server import RedisServer

from orchestrator.embedded.server import Server

#: What everything but a few single faults goes through.
QUEUES = ("orchestrator", "orchestrator.sweeps")
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

    def empty(self) -> int:
        """Forget everything that waits, and on Redis also what is with workers; how many messages that were."""


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

    def empty(self) -> int:
        queues = [f"{name}{_PRIORITY}{step}" for name in QUEUES for step in _STEPS]
        with self._client() as redis, redis.pipeline(transaction=True) as together:
            for name in (*QUEUES, *queues):
                together.llen(name)
            together.hlen("unacked")
            together.flushall()
            return sum(map(int, together.execute()[:-1]))


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

    def empty(self) -> int:
        purged = 'begin {ok, N} = rabbit_amqqueue:purge(Q), N end || Q <- rabbit_amqqueue:list(<<"/">>)'
        return int(self._broker.evaluate(f"lists:sum([{purged}])"))
