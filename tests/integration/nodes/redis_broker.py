"""Redis as the tests look into it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Set
from typing import Any
from uuid import uuid4

from redis import Redis, RedisError

from nodes.brokers import SiteBroker, Tap
from nodes.messages import Message

_LINE = re.compile(rb'\[(\d+) ([^\]]+)\] "LPUSH" "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"$')
#: Kombu's key of a queue with a priority: name, separator, priority.
_PRIORITY = "\x06\x16"
_MARKS = "traffic-mark"


class RedisBroker(SiteBroker):
    """Lists, and a hash of what is with workers.

    Args:
        options: of connections, such as what TLS needs.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        self._redis = Redis.from_url(url, **options)
        self._disregarded: set[bytes | str] = set()

    def close(self) -> None:
        self._redis.close()

    def flush(self) -> None:
        self._redis.flushall()

    def length(self, queue: str) -> int:
        return int(self._redis.llen(queue))

    def unacknowledged(self) -> int:
        return len(self._tags() - self._disregarded)

    def disregard(self) -> None:
        self._disregarded = self._tags()

    def _tags(self) -> set[bytes | str]:
        return set(self._redis.hkeys("unacked"))

    def waiting(self, queue: str) -> list[Message]:
        return [Message(queue, raw) for raw in reversed(self._redis.lrange(queue, 0, -1)) if isinstance(raw, bytes)]

    def drop(self, queue: str) -> None:
        self._redis.delete(queue)

    def deliver(self, message: Message, queue: str) -> None:
        self._redis.lpush(queue, _copy(message))

    def tap(self) -> Tap:
        return _Monitor(self._url)

    def connections(self) -> Set[str]:
        return {client["id"] for client in self._redis.client_list()}

    def cut(self, spared: Set[str]) -> None:
        for client in self._redis.client_list():
            if client["id"] not in spared and client["cmd"] in {"brpop", "subscribe", "psubscribe"}:
                self._redis.client_kill_filter(_id=client["id"])


class _Monitor(Tap):
    """MONITOR: the broker itself tells of each command."""

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url)
        self._copier = Redis.from_url(url, single_connection_client=True)
        self._own = str(self._copier.client_info()["addr"])
        self._monitor = self._client.monitor()  # type: ignore[no-untyped-call]
        self._monitor.__enter__()
        self._closed = False

    def read(self) -> Iterator[Message | str]:
        while not self._closed:
            try:
                line = self._monitor.connection.read_response(disable_decoding=True)
            except RedisError:
                break
            found = _LINE.search(line)
            if found is None or found[2].decode() == self._own:
                continue
            key, raw = _unescaped(found[3]).decode(), _unescaped(found[4])
            if key == _MARKS:
                yield raw.decode()
            elif raw.startswith(b"{") and "task" in json.loads(raw).get("headers", {}):
                yield Message(key.split(_PRIORITY)[0], raw)
        self._client.close()

    def mark(self, text: str) -> None:
        self._client.lpush(_MARKS, text)
        self._client.delete(_MARKS)

    def copy(self, message: Message) -> None:
        self._copier.lpush(message.queue, _copy(message))

    def close(self) -> None:
        self._closed = True
        self._copier.delete(_MARKS)  # MONITOR blocks until the next command; its reader then closes what it reads


def _copy(message: Message) -> bytes:
    """The same message delivered once more, as a broker does: with a delivery tag of its own."""
    content = json.loads(message.raw)
    content["properties"]["delivery_tag"] = str(uuid4())
    return json.dumps(content).encode()


def _unescaped(quoted: bytes) -> bytes:
    """The broker quotes as C does, which Python reads."""
    found: bytes = ast.literal_eval(f'b"{quoted.decode("ascii")}"')
    return found
