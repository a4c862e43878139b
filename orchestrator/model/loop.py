"""How a loop's iterations are shared out among its lanes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Lanes:
    """Iterations 0 to count - 1 in unbroken ranges, one a lane, as even as may be."""

    count: int
    lanes: int

    def heads(self) -> tuple[int, ...]:
        """The first iteration of each lane."""
        return tuple(lane * self.count // self.lanes for lane in range(self.lanes))

    def following(self, index: int) -> int | None:
        """The iteration that follows in the same lane; None at a lane's end."""
        after = index + 1
        if after >= self.count:
            return None
        # `after` is a head if and only if it is the first index of its lane.
        lane = (after * self.lanes + self.count - 1) // self.count
        return None if lane < self.lanes and lane * self.count // self.lanes == after else after
