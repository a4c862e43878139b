"""How much of this machine a load takes, and which load leaves it enough to recover with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from fault_suite import scenario
from fault_suite.stack import Stack

#: Executions a second that are asked of a machine, at most, and at least: a mixed run needs 500 in its minute.
MOST, LEAST = 14.0, 9.0
#: Share of the processors' time that a load may take. A fault adds work of its own; a machine without time to spare
#: never catches up, and shows nothing of the engine but that.
CARRIED = 0.65
#: Seconds that are measured.
_MEASURED = 4.0
#: Of the first line of /proc/stat, after its name: what counts as time that nobody asked for (proc(5): idle, iowait).
_UNUSED = (3, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What all processors together have done until now, in ticks."""

    used: int
    unused: int

    @staticmethod
    def now() -> Moment:
        """Time that another machine took of this one (`steal`) was asked for here, and counts as used."""
        ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        unused = sum(ticks[place] for place in _UNUSED)
        return Moment(used=sum(ticks) - unused, unused=unused)

    def since(self, before: Moment) -> float:
        """Share of the processors' time that was used since then."""
        used, unused = self.used - before.used, self.unused - before.unused
        return used / max(1, used + unused)


def fitting(stack: Stack) -> float:
    """Executions a second that this machine carries with time to spare: `MOST`, or what takes `CARRIED` of it.

    Linear between what the stack takes by itself and what it takes under `MOST`.
    """
    alone = _taken()
    stack.start_client("fitting", 0, MOST)
    try:
        stack.until(lambda: stack.outside.calls("fitting"), "the load has begun")
        time.sleep(scenario.COLD + scenario.WARM)
        under_load = _taken()
    finally:
        stack.stop_client()
        stack.drain("fitting", scenario.DRAIN)
    return fitted(alone, under_load)


def fitted(alone: float, under_load: float) -> float:
    """The same, of the shares of the processors' time that were taken."""
    each = max(under_load - alone, 0.0) / MOST
    rate = (CARRIED - alone) / each if each else MOST
    return round(min(MOST, max(LEAST, rate)), 1)


def _taken() -> float:
    before = Moment.now()
    time.sleep(_MEASURED)
    return Moment.now().since(before)
