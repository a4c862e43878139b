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
    #: Path of the step that it broke out of; empty for the step's own failure.
    step: str = ""

    def as_data(self) -> dict[str, Any]:
        """JSON data, cut to what the ledger keeps; NUL characters, which jsonb cannot hold, are replaced."""
        data = {"category": self.category, "name": self.name, "message": self.message[:MESSAGE_LIMIT]}
        if self.traceback:
            data["traceback"] = self.traceback[-TRACEBACK_LIMIT:]
        if self.step:
            data["step"] = self.step
        return {key: _storable(value) for key, value in data.items()}


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
