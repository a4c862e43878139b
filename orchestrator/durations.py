"""Lengths of time as authors write them: `90`, `"1h30m"`, `"7d"`, `"P1DT2H"`."""

from __future__ import annotations

import math
import re

#: The longest duration, 100 years: whatever is longer is a mistake, such as milliseconds written as seconds.
LONGEST = 36_525 * 86_400.0
#: More characters than any duration has.
_LONGEST_TEXT = 100

_N = r"([0-9]+(?:\.[0-9]+)?)"
_UNITS = (604_800.0, 86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_PLAIN = re.compile(r"\s*".join(rf"(?:{_N}\s*{unit})?" for unit in ("w", "d", "h", "m", "s", "ms")))
_ISO = re.compile(rf"P(?=.)(?:{_N}W)?(?:{_N}D)?(?:T(?=.)(?:{_N}H)?(?:{_N}M)?(?:{_N}S)?)?")
_NUMBER = re.compile(_N)
_CALENDAR = re.compile(r"P[^T]*[0-9][YM].*|.*[0-9]\s*(?:y|mo).*")


def seconds(value: object, *, signed: bool = False) -> float:
    """The seconds of a duration.

    Args:
        value: a number of seconds, or text: the same ("90", "1.5"), numbers with units from large to small out of w, d,
            h, m, s and ms ("1h30m", "500ms"), or ISO 8601 ("P1DT2H") without months and years.
        signed: whether it may be negative, as in -90 or "-1h30m".

    Raises:
        ValueError: anything else; one sentence that says what is accepted.
    """
    if isinstance(value, str):
        text = value.strip() if len(value) <= _LONGEST_TEXT else "x"
        negative = text.startswith("-")
        found = _read(text[1:] if negative else text)
        if found is None:
            raise ValueError(_refusal(value))
        amount = -found if negative else found
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # An int may be larger than any float.
        amount = float(value) if abs(value) <= LONGEST else math.inf
    else:
        raise ValueError(f"a duration is a number of seconds or a text such as 1h30m, not {type(value).__name__}")
    if not abs(amount) <= LONGEST:
        raise ValueError("a duration is at most 100 years; numbers are seconds")
    if amount < 0 and not signed:
        raise ValueError("a duration is not negative")
    return amount


def _read(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    if text and (match := _PLAIN.fullmatch(text)):
        return _sum(match, _UNITS)
    if match := _ISO.fullmatch(text):
        return _sum(match, _UNITS)
    return None


def _sum(match: re.Match[str], units: tuple[float, ...]) -> float:
    return sum((float(found) * unit for found, unit in zip(match.groups(), units, strict=False) if found), 0.0)


def _refusal(text: str) -> str:
    shown = repr(text if len(text) <= 40 else text[:40] + "...")
    if len(text) <= _LONGEST_TEXT and _CALENDAR.fullmatch(text.strip().removeprefix("-")):
        return f"{shown} is no duration: months and years have no fixed length; use days, as in 30d"
    return f'{shown} is no duration; write seconds ("90"), units from w to ms ("1h30m", "7d", "500ms") or "P1DT2H"'
