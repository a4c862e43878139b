"""What one resolve may cost. The charges depend on the values only, so the same values always end the same way."""

from __future__ import annotations

from datetime import datetime

from orchestrator import clock

#: Nodes visited and elements touched by one resolve; some tenths of a second at the very worst.
STEPS = 100_000
#: Characters and elements built by one resolve.
SIZE = 1_000_000
#: Characters that are read for one step: reading them is that much faster than visiting a node.
CHARACTERS = 50


class Fault(Exception):
    """Why an expression has no value; becomes an ExpressionError once the text and the position are known.

    Attributes:
        position: index in the text of what cannot be computed; None until it is known.
    """

    def __init__(self, problem: str = "", position: int | None = None) -> None:
        super().__init__(problem)
        self.position = position

    @property
    def problem(self) -> str:
        """What is wrong and how to mend it."""
        return str(self.args[0])

    def found_at(self, position: int) -> None:
        """Note where it is, unless a part of the expression has done so."""
        if self.position is None:
            self.position = position


class Evaluation:
    """One resolve of one template: what is left of its budget, and its moment. Work is charged before it is done."""

    __slots__ = ("_now", "_size", "_steps")

    def __init__(self, steps: int = STEPS, size: int = SIZE) -> None:
        self._steps = steps
        self._size = size
        self._now: datetime | None = None

    def spend(self, steps: int) -> None:
        """Charge nodes to visit and elements to touch; Fault when the budget is spent."""
        self._steps -= steps
        if self._steps < 0:
            raise Fault(f"the budget of {STEPS:,} evaluation steps is spent; compute less, or do it in an activity")

    def read(self, characters: int) -> None:
        """Charge characters to read."""
        self.spend(characters // CHARACTERS)

    def build(self, size: int) -> None:
        """Charge characters and elements to build; Fault when the budget is spent."""
        self._size -= size
        if self._size < 0:
            raise Fault(f"the budget of {SIZE:,} characters and elements is spent; build less, or do it in an activity")

    def now(self) -> datetime:
        """This moment, in UTC: one and the same in all of a template."""
        if self._now is None:
            self._now = clock.now()
        return self._now
