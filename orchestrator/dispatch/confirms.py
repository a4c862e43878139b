"""Publisher confirms: a message is published once RabbitMQ has it, in a queue.

Kombu's own (`confirm_publish`) waits for each message by itself, without a limit, and on all connections of an
application, also on that of a worker's events: a broker that falls silent would stop its main process. So the
publisher's messages have a channel of their own on each connection, are sent one behind the other, and their confirms
are awaited together.
"""

from __future__ import annotations

from typing import Any

from amqp.exceptions import MessageNacked, RecoverableConnectionError

from orchestrator import clock

#: Seconds that a broker may take to confirm what it was sent, and to take in a message: one whose memory or disk is
#: full takes nothing more.
PATIENCE = 5.0


def batch_confirmed(producer: Any) -> None:
    """Have a kombu producer's batches confirmed, as long as it has its present channel."""
    channel = producer.channel
    channel.create_publish_batch = lambda max_size: Batch(channel, max_size)


class Batch:
    """A batch as kombu's producers want it (`Producer.batch`).

    Args:
        max_size: most messages that are under way without a confirm.
    """

    def __init__(self, channel: Any, max_size: int) -> None:
        self.channel, self._max_size = channel, max_size
        self._confirms = _confirms(channel.connection)

    def publish(self, message: Any, *, exchange: str, routing_key: str, **_: Any) -> None:
        """Send a message; perhaps wait for confirms."""
        self._confirms.send(message, exchange, routing_key)
        if self._confirms.missing >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Wait until all are confirmed. Raises TimeoutError, MessageNacked, AMQPError."""
        self._confirms.wait()

    def discard(self) -> None:
        """What is sent is sent; the connection is given up, too, by who could not send the rest."""

    def close(self) -> None:
        """The channel stays for the next batch."""


class Confirms:
    """A channel on which RabbitMQ confirms, and what it has not confirmed yet."""

    def __init__(self, connection: Any) -> None:
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._taken)
        self._channel.events["basic_nack"].add(self._refused)
        self._channel.events["basic_return"].add(self._returned)
        self._sent = 0
        self._missing: set[int] = set()
        self._refusal: Exception | None = None

    @property
    def missing(self) -> int:
        """How many messages are not confirmed."""
        return len(self._missing)

    def send(self, message: Any, exchange: str, routing_key: str) -> None:
        """Send a message that must come into a queue."""
        self._sent += 1
        self._missing.add(self._sent)
        self._channel.basic_publish(
            message, exchange=exchange, routing_key=routing_key, mandatory=True, timeout=PATIENCE
        )

    def wait(self) -> None:
        """Wait until nothing is missing, for PATIENCE at most; raises what the broker has refused."""
        deadline = clock.elapsed() + PATIENCE
        while self._missing:
            connection, left = self._channel.connection, deadline - clock.elapsed()
            if connection is None:
                raise RecoverableConnectionError("the broker closed the channel")
            if left <= 0:
                raise TimeoutError(f"{len(self._missing)} messages are not confirmed within {PATIENCE:g} s")
            connection.drain_events(timeout=left)
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _taken(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._missing = {sent for sent in self._missing if sent > tag}
        else:
            self._missing.discard(tag)

    def _refused(self, tag: int, multiple: bool) -> None:
        self._taken(tag, multiple)
        self._refusal = MessageNacked("the broker refused a message")

    def _returned(self, error: Exception, *_: object) -> None:
        """No queue is there for it, though it was declared: somebody has deleted that since. It is confirmed, too."""
        self._refusal = error


def _confirms(connection: Any) -> Confirms:
    """A connection's own, on which it is kept: both are used by one thread at a time, and end together."""
    found: Confirms | None = getattr(connection, "orchestrator_confirms", None)
    if found is None:
        found = connection.orchestrator_confirms = Confirms(connection)
    return found
