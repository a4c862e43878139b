"""Edges, and what becomes of a step that has one parent. Of steps with several, the ledger decides by the same rules
(ledger/joins.py); a test compares the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.model.definition import Join
from orchestrator.model.exits import ENDED, FAILED, OK, SKIPPED


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A step to come after, and by which exit it must have ended; None is success."""

    parent: str
    exit: str | None

    @classmethod
    def of(cls, written: str) -> Edge:
        """The edge that `reserve` or `route:express` stands for."""
        parent, _, exit_by = written.partition(":")
        return cls(parent=parent, exit=exit_by or None)

    def is_live(self, exit_by: str | None, succeeded: bool) -> bool:
        """Whether a parent that ended by an exit leads on along this edge."""
        if self.exit is None:
            return succeeded or exit_by == OK
        return self.exit in {exit_by, ENDED}


def verdict(rule: Join, edges: Sequence[Edge], exit_by: str | None, *, chosen: bool = False) -> str:
    """ready, unmet, skipped or dead: what a step becomes when its only parent ends by an exit.

    Args:
        chosen: the parent succeeded, and the exit is one that its kind chose.
    """
    live = sum(edge.is_live(exit_by, chosen or exit_by is None) for edge in edges)
    failed = sum(exit_by == FAILED and edge.exit != ENDED for edge in edges)
    if rule == "all":
        return "dead" if failed else "ready" if live else "skipped"
    if rule == "settled":
        return "ready" if live or failed or exit_by not in {SKIPPED} else "skipped"
    if live >= (1 if rule == "any" else rule):
        return "ready"
    return "unmet" if live or failed else "skipped"
