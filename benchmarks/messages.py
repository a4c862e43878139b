"""C: the largest message of workflows of 1,000 steps, as the broker stores it, in every phase."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from redis import Redis

from benchmarks.report import Figure, Scale
from benchmarks.stack import Stack
from benchmarks.workflows import LONG
from orchestrator.model.state import ExecutionStatus

#: Most bytes of a message, its envelope included.
BOUND = 4_096
#: Workflow, and how it ends.
SHAPES = {
    "thousand": ExecutionStatus.SUCCEEDED,
    "thousand-apart": ExecutionStatus.SUCCEEDED,
    "fan-out": ExecutionStatus.SUCCEEDED,
    "saga": ExecutionStatus.COMPENSATED,
}

_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(?:x[0-9a-f]{2}|.)")


class Watch:
    """Sees every command that the broker gets, and keeps the size of the largest message that one stores.

    Messages are stored in a queue's list, and then, until they are acknowledged, in a hash.
    """

    def __init__(self, broker_url: str) -> None:
        self._client = Redis.from_url(broker_url, socket_timeout=None)
        self._seen: dict[bytes, list[int]] = {b"LPUSH": [], b"RPUSH": [], b"HSET": []}
        self._thread = threading.Thread(target=self._read, name="monitor", daemon=True)
        self._ready = threading.Event()

    @property
    def sizes(self) -> list[int]:
        """Bytes of each message stored."""
        return [size for found in self._seen.values() for size in found]

    @property
    def published(self) -> int:
        """Messages that were put into a queue."""
        return len(self._seen[b"LPUSH"])

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Commands are seen in their order: with this one, all before it have been.
        self._client.echo("the end of the watch")
        self._thread.join()
        self._client.close()

    def _read(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._ready.set()
            while True:
                line = monitor.connection.read_response(disable_decoding=True)
                command, *arguments = [_ESCAPED.sub(b"?", found) for found in _ARGUMENT.findall(line)]
                if command.upper() == b"ECHO":
                    return
                if command.upper() in self._seen:
                    self._seen[command.upper()] += [len(value) for value in arguments[1:]]


def largest(stack: Stack, _scale: Scale, tick: Callable[[], object]) -> list[Figure]:
    """C: one figure for each shape of workflow."""
    figures = []
    with stack.durable_worker():
        for name, expected in SHAPES.items():
            with Watch(stack.broker_url) as watch:
                stack.until_final(stack.orchestrator.start(name), expected)
            if not watch.sizes:
                raise RuntimeError(f"no message of {name} was seen")
            figures.append(
                Figure(
                    part="C",
                    name=f"largest message of {LONG:,} steps: {name}",
                    value=max(watch.sizes),
                    unit="bytes",
                    bound=BOUND,
                    details={"messages of " + name: watch.published},
                )
            )
            tick()
    return figures
