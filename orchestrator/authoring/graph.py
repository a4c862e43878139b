"""The steps of a definition as a graph: what comes before what, and what waits for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

#: So many cycles are found; mending these will show whether there are more.
_MOST_CYCLES = 10


class Graph:
    """Step ids and the ids that each comes directly after. Unknown ids and a step's own id are left out."""

    def __init__(self, after: Mapping[str, Sequence[str]]) -> None:
        self._parents = {
            step: [parent for parent in dict.fromkeys(parents) if parent in after and parent != step]
            for step, parents in after.items()
        }

    @property
    def ids(self) -> tuple[str, ...]:
        """All step ids, as the definition has them."""
        return tuple(self._parents)

    def __contains__(self, step: object) -> bool:
        return step in self._parents

    @cached_property
    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """Steps that wait for each other, such as (a, b, a) where b comes after a, and a after b."""
        return self._sorted[1]

    def is_before(self, earlier: str, later: str) -> bool:
        """Whether a step has always ended when the other starts. Only asked of a graph without cycles."""
        if earlier in self._parents[later]:
            return True
        return bool(self._before[later] >> self._number[earlier] & 1)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {step: number for number, step in enumerate(self._parents)}

    @cached_property
    def _before(self) -> dict[str, int]:
        """For each step the set of steps before it, as the bits of a number: a union is then one machine operation
        for 30 steps, and a chain of 2,000 takes a millisecond."""
        before: dict[str, int] = {}
        for step in self._sorted[0]:
            bits = 0
            for parent in self._parents[step]:
                bits |= before[parent] | 1 << self._number[parent]
            before[step] = bits
        return before

    @cached_property
    def _sorted(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """The steps in an order of execution, and the cycles that had to be cut for there to be one."""
        parents = {step: set(before) for step, before in self._parents.items()}
        cycles: list[tuple[str, ...]] = []
        while len(cycles) < _MOST_CYCLES:
            try:
                return tuple(TopologicalSorter(parents).static_order()), tuple(cycles)
            except CycleError as error:
                cycle: list[str] = error.args[1]
                cycles.append(tuple(cycle))
                parents[cycle[1]].discard(cycle[0])
        return (), tuple(cycles)
