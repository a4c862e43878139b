"""How fast calls begin, and when that is again as fast as it was before a fault. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

#: The rate is back when it is this share of what it was.
SHARE = 0.9
#: Below this share the rate has broken down: only what comes after the last break-down is a recovery.
BREAKDOWN = 0.5
#: Seconds: of the windows that a rate is taken over, and by which they are shifted.
WINDOW, SHIFT = 1.0, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What a fault did to the rate. Rates are calls a second, times seconds."""

    before: float
    #: The lowest within the time that was watched.
    lowest: float
    #: From when the cause was gone until the rate was back; None if it was not back at the end.
    seconds: float | None


def rate(times: Sequence[float], begin: float, length: float = WINDOW) -> float:
    """Calls a second in the window that begins at `begin`. `times` is sorted."""
    return (bisect_left(times, begin + length) - bisect_left(times, begin)) / length


def steady(times: Sequence[float], begin: float, end: float) -> float:
    """The median of the rates of all windows between two times; 0 if there is no room for one."""
    found = [rate(times, at) for at in _windows(begin, end)]
    return median(found) if found else 0.0


def recovery(times: Sequence[float], *, begin: float, struck: float, gone: float, end: float) -> Recovery:
    """What became of the rate.

    Args:
        times: when calls began, sorted.
        begin: since when the load was steady.
        struck: when the fault struck.
        gone: when its cause was gone: a killed process at once, a server when it is back.
        end: until when was watched.
    """
    before = steady(times, begin, struck)
    watched = [(at, rate(times, at)) for at in _windows(struck, end)]
    lowest = min((found for _, found in watched), default=0.0)
    broken = [at for at, found in watched if found < BREAKDOWN * before]
    since = max([gone, *(at + SHIFT for at in broken)])
    if not before:
        return Recovery(before=before, lowest=lowest, seconds=None)
    back = next((at for at, found in watched if at >= since and found >= SHARE * before), None)
    return Recovery(before=before, lowest=lowest, seconds=None if back is None else max(0.0, back - gone))


def _windows(begin: float, end: float) -> list[float]:
    return [begin + n * SHIFT for n in range(max(0, int((end - begin - WINDOW) / SHIFT) + 1))]
