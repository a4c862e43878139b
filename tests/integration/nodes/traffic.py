"""Every message on its way into the broker, as the broker itself reports it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self
from uuid import uuid4

from nodes.brokers import SiteBroker, Tap
from nodes.messages import Message
from nodes.waiting import eventually

__all__ = ["Message", "Traffic"]


class Traffic:
    """Records messages while it is entered.

    Args:
        doubling: deliver every segment's message once more as soon as it is seen.
    """

    def __init__(self, broker: SiteBroker, *, doubling: bool = False) -> None:
        self._broker, self._doubling = broker, doubling
        self._seen: list[Message] = []
        self._marks: set[str] = set()
        self._tap: Tap | None = None
        self._thread = threading.Thread(target=self._listen, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._tap = self._broker.tap()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()
        self._thread.join(10)

    def segments(self, execution: str | None = None) -> list[Message]:
        """Messages of segments so far, of one execution or of all."""
        self._catch_up()
        found = [message for message in self._seen if message.task == "orchestrator.segment"]
        return [message for message in found if execution in {None, message.args[0]}]

    def sweeps(self, name: str) -> list[Message]:
        """Messages of a sweep so far."""
        self._catch_up()
        return [message for message in self._seen if message.task == "orchestrator.sweep" and message.args == [name]]

    @property
    def _entered(self) -> Tap:
        assert self._tap is not None, "it records while it is entered"
        return self._tap

    def _catch_up(self) -> None:
        """Wait until everything published before now has been seen: a mark of our own comes behind it."""
        mark = str(uuid4())
        self._entered.mark(mark)
        eventually(lambda: mark in self._marks, "the broker reports its messages")

    def _listen(self) -> None:
        for found in self._entered.read():
            if isinstance(found, str):
                self._marks.add(found)
                continue
            self._seen.append(found)
            if found.task == "orchestrator.segment" and self._doubles():
                self._entered.copy(found)

    def _doubles(self) -> bool:
        """Whether this segment's message comes twice."""
        return self._doubling
