"""How explanations say times, names and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

#: Characters of an error's message that a sentence shows.
_LONGEST = 200
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def when(at: datetime, now: datetime) -> str:
    """at 2026-01-31 09:00:00 UTC, in 5 min; or how long ago that was."""
    return f"at {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {_distance(at, now)}"


def moment(at: datetime, now: datetime) -> str:
    """2026-01-31 09:00:00 UTC (5 min ago), or (in 5 min)."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({_distance(at, now)})"


def told(error: Mapping[str, Any] | None) -> str:
    """An error of the ledger, with the step that it comes from."""
    if error is None:
        return "an unknown error"
    message = str(error.get("message", "")).strip()
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    where = f" in {code(str(error['step']))}" if error.get("step") else ""
    return f"{error.get('name', 'Error')}{where}: {message}".removesuffix(": ")


def code(name: str) -> str:
    """A name that people may want to copy."""
    return f"`{name}`"


def listed(names: Sequence[str], most: int = 5) -> str:
    """a, b and c; of many the first few, and how many more."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part) if shown else ""


def _distance(at: datetime, now: datetime) -> str:
    seconds = (at - now).total_seconds()
    whole = abs(round(seconds))
    size, unit = next(((size, unit) for size, unit in _UNITS if whole >= size), (1, "s"))
    amount = f"{whole // size} {unit}"
    if not whole:
        return "now"
    return f"in {amount}" if seconds > 0 else f"{amount} ago"
