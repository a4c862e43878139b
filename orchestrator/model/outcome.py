"""How an attempt ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Longest message and traceback kept in the ledger, in characters.
MESSAGE_LIMIT, TRACEBACK_LIMIT = 2_000, 8_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What went wrong in an attempt."""

    #: business, transient, system, timeout or cancelled.
    category: str
    #: Stable name of the error: an ActivityError's name, else the exception's class.
    name: str
    message: str
    traceback: str = ""
    #: Seconds that an outside service asks to be left alone for; the next attempt comes no earlier.
    retry_after: float | None = None
    #: Whether the attempt was called off from outside: nobody bears that but the execution. Not stored.
    interrupted: bool = False
    #: Path of the step that it broke out of; empty for the step's own failure.
    step: str = ""
    #: The exception's class and its bases, most special first, as `module.name`: what a definition's table of errors
    #: knows it by. Not kept. Empty for what says its own category: then the table has no say.
    classes: tuple[str, ...] = ()
    #: Whether a definition's table of errors has given it its category.
    ruled: bool = False

    def as_data(self) -> dict[str, Any]:
        """JSON data, cut to what the ledger keeps; NUL characters, which jsonb cannot hold, are replaced."""
        data = {"category": self.category, "name": self.name, "message": self.message[:MESSAGE_LIMIT]}
        if self.traceback:
            data["traceback"] = self.traceback[-TRACEBACK_LIMIT:]
        if self.step:
            data["step"] = self.step
        return {key: _storable(value) for key, value in data.items()}


def classes_of(kind: type[BaseException]) -> tuple[str, ...]:
    """An exception's class and its bases by name, most special first; those that all exceptions have aside."""
    return tuple(
        f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__ if base not in {BaseException, object}
    )


def _storable(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """The activity returned."""

    #: Its result as JSON text.
    output: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The activity did not return a usable result."""

    failure: Failure


Outcome = Completed | Failed
