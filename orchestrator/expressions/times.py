"""Moments as text. Results are in UTC with six digits of fraction and `Z`, so that their order as text is in time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from orchestrator import durations
from orchestrator.expressions.budget import Evaluation, Fault
from orchestrator.expressions.values import is_number, kind, string

#: More characters than any moment has.
_LONGEST = 40
_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?P<time>[T ][0-9:]{5,8}(?:\.[0-9]{1,9})?(?P<zone>Z|[+-][0-9:]{2,8})?)?")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
#: What a format may hold. Not `strftime`: it knows widths, which make texts of any length, and the machine's language.
_DIRECTIVES: dict[str, Callable[[datetime], str]] = {
    "Y": lambda moment: f"{moment.year:04}",
    "m": lambda moment: f"{moment.month:02}",
    "d": lambda moment: f"{moment.day:02}",
    "H": lambda moment: f"{moment.hour:02}",
    "M": lambda moment: f"{moment.minute:02}",
    "S": lambda moment: f"{moment.second:02}",
    "j": lambda moment: f"{moment.timetuple().tm_yday:03}",
    "u": lambda moment: str(moment.isoweekday()),
    "A": lambda moment: _DAYS[moment.weekday()],
    "B": lambda moment: _MONTHS[moment.month - 1],
    "%": lambda moment: "%",
}
#: Characters of the longest part of a formatted moment, such as September.
_PART = 9


def now(evaluation: Evaluation) -> str:
    """This moment; the same in all of a template."""
    return _written(evaluation.now())


def add_time(evaluation: Evaluation, moment: Any, duration: Any) -> str:
    """The moment so much later, or earlier for a negative duration."""
    evaluation.build(_LONGEST)
    try:
        seconds = durations.seconds(duration, signed=True)
    except ValueError as error:
        raise Fault(str(error)) from None
    try:
        return _written(_read(moment, "add_time") + timedelta(seconds=seconds))
    except OverflowError:
        raise Fault("add_time gives years from 1 to 9999") from None


def seconds_between(_: Evaluation, earlier: Any, later: Any) -> float:
    """Seconds from one moment to another."""
    return (_read(later, "seconds_between") - _read(earlier, "seconds_between")).total_seconds()


def format_time(evaluation: Evaluation, moment: Any, pattern: Any) -> str:
    """The moment as a text of one's own form, in the zone that it is written with."""
    form = string(pattern, "the format is")
    evaluation.read(len(form))
    evaluation.build(len(form) + form.count("%") * _PART)
    read = _read(moment, "format_time")

    def part(match: re.Match[str]) -> str:
        directive = _DIRECTIVES.get(match[1])
        if directive is None:
            known = ", ".join(f"%{name}" for name in _DIRECTIVES)
            raise Fault(f"format_time does not know {match[0]!r}; there are {known}")
        return directive(read)

    return _DIRECTIVE.sub(part, form)


def _read(value: Any, function: str) -> datetime:
    if not isinstance(value, str):
        fix = "; a moment is text, such as now()" if is_number(value) else ""
        raise Fault(f"{function} takes a moment such as 2026-01-31T12:00:00Z, and this is {kind(value)}{fix}")
    match = _FORM.fullmatch(value) if len(value) <= _LONGEST else None
    if match is not None:
        if match["time"] and not match["zone"]:
            raise Fault(f"{value!r} has no zone; add Z for UTC, or an offset such as +02:00")
        try:
            if not match["time"]:
                # A date alone is the beginning of that day in UTC.
                return datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC)
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    raise Fault(f"{value[:_LONGEST]!r} is no moment; write it as 2026-01-31T12:00:00Z or 2026-01-31")


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
