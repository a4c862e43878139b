"""The site's broker as the tests look into it: what waits there, what comes in, and what it forgets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from types import TracebackType
from typing import Self

from nodes.messages import Message


class Tap(ABC):
    """Reports every message on its way into the broker, but for the tap's own copies; a context manager."""

    @abstractmethod
    def read(self) -> Iterator[Message | str]:
        """Messages, and the texts of marks, in order, until the tap is closed; to be called in a thread of its own."""

    @abstractmethod
    def mark(self, text: str) -> None:
        """Have a text reported behind everything that is in the broker now."""

    @abstractmethod
    def copy(self, message: Message) -> None:
        """Deliver a message once more, unreported; called by the thread that reads."""

    @abstractmethod
    def close(self) -> None:
        """End `read`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SiteBroker(ABC):
    """What a broker lets the tests do to it."""

    @abstractmethod
    def close(self) -> None:
        """Give connections back."""

    @abstractmethod
    def flush(self) -> None:
        """Forget every message."""

    @abstractmethod
    def length(self, queue: str) -> int:
        """How many messages wait in a queue."""

    @abstractmethod
    def unacknowledged(self) -> int:
        """How many messages are with workers, whether these live or not."""

    @abstractmethod
    def disregard(self) -> None:
        """Leave out of `unacknowledged` what is with workers now: where a broker keeps it for the dead."""

    @abstractmethod
    def waiting(self, queue: str) -> list[Message]:
        """Messages that wait in a queue, the oldest first."""

    @abstractmethod
    def drop(self, queue: str) -> None:
        """Forget a queue's messages."""

    @abstractmethod
    def deliver(self, message: Message, queue: str) -> None:
        """Deliver a message once more."""

    @abstractmethod
    def tap(self) -> Tap:
        """A report of what comes in from now on."""

    @abstractmethod
    def connections(self) -> Set[str]:
        """Names of the connections that are open."""

    @abstractmethod
    def cut(self, spared: Set[str]) -> None:
        """Close the connections that consume, but for these."""
