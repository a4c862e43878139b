"""Every message on its way into the broker, as the broker itself reports it (MONITOR)."""

from __future__ import annotations

import ast
import base64
import json
import re
import threading
import zlib
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from redis import Redis, RedisError

from nodes.waiting import eventually

_LINE = re.compile(rb'\[(\d+) ([^\]]+)\] "LPUSH" "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"$')
#: Kombu's key of a queue with a priority: name, separator, priority.
_PRIORITY = "\x06\x16"


@dataclass(frozen=True)
class Message:
    """One message as it was pushed."""

    #: The queue's name, its priority aside.
    queue: str
    raw: bytes

    @cached_property
    def content(self) -> dict[str, Any]:
        """The envelope: headers, properties, body."""
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def headers(self) -> dict[str, Any]:
        """Celery's headers."""
        found: dict[str, Any] = self.content["headers"]
        return found

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.headers["task"])

    @property
    def args(self) -> list[Any]:
        """The task's positional arguments."""
        found: list[Any] = self._body[0]
        return found

    @property
    def chord_body(self) -> str | None:
        """The head of the segment that follows the chord which this message is a header of."""
        chord = self._body[2].get("chord")
        return None if chord is None else chord["args"][2]

    @cached_property
    def _body(self) -> list[Any]:
        """Arguments, keyword arguments, and the canvas around them."""
        body = base64.b64decode(self.content["body"])
        if self.headers.get("compression"):
            body = zlib.decompress(body)
        found: list[Any] = json.loads(body)
        return found

    def copy(self) -> bytes:
        """The same message delivered once more, as a broker does: with a delivery tag of its own."""
        content = json.loads(self.raw)
        content["properties"]["delivery_tag"] = str(uuid4())
        return json.dumps(content).encode()


class Traffic:
    """Records messages while it is entered.

    Args:
        doubling: push a copy of every segment's message right behind it.
    """

    def __init__(self, url: str, *, doubling: bool = False) -> None:
        self._client, self._doubling = Redis.from_url(url), doubling
        self._copier = Redis.from_url(url, single_connection_client=True)
        self._own = ""
        self._seen: list[Message] = []
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._own = str(self._copier.client_info()["addr"])
        self._thread.start()
        assert self._ready.wait(10), "the broker does not let itself be monitored"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._client.ping()  # MONITOR blocks until the next command
        self._thread.join(10)
        self._client.close()
        self._copier.close()

    def segments(self, execution: str | None = None) -> list[Message]:
        """Messages of segments so far, of one execution or of all."""
        self._catch_up()
        found = [message for message in self._seen if message.task == "orchestrator.segment"]
        return [message for message in found if execution in {None, message.args[0]}]

    def sweeps(self, name: str) -> list[Message]:
        """Messages of a sweep so far."""
        self._catch_up()
        return [message for message in self._seen if message.task == "orchestrator.sweep" and message.args == [name]]

    def _catch_up(self) -> None:
        """Wait until everything pushed before now has been seen: a mark of our own comes behind it."""
        mark = str(uuid4())
        self._client.lpush("traffic-mark", mark)
        eventually(lambda: mark in self._marks, "the broker reports its commands")
        self._client.delete("traffic-mark")

    @cached_property
    def _marks(self) -> set[str]:
        return set()

    def _listen(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._ready.set()
            while not self._stop.is_set():
                try:
                    line = monitor.connection.read_response(disable_decoding=True)
                except RedisError:
                    return
                if found := _LINE.search(line):
                    self._meet(found[2].decode(), *(_unescaped(found[part]) for part in (3, 4)))

    def _meet(self, sender: str, key: bytes, raw: bytes) -> None:
        if key == b"traffic-mark":
            self._marks.add(raw.decode())
        elif sender != self._own and raw.startswith(b"{"):
            message = Message(key.decode().split(_PRIORITY)[0], raw)
            if "task" not in message.content.get("headers", {}):
                return
            self._seen.append(message)
            if self._doubling and message.task == "orchestrator.segment":
                self._copier.lpush(key, message.copy())


def _unescaped(quoted: bytes) -> bytes:
    """The broker quotes as C does, which Python reads."""
    found: bytes = ast.literal_eval(f'b"{quoted.decode("ascii")}"')
    return found
