"""Where a step stands in a definition, and what its end brings about."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.compiler.body import Body
from orchestrator.model.definition import Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a step stands."""

    #: The body that it is a step of.
    body: Body
    #: What its path has before its id.
    prefix: str
    #: Its id.
    id: str
    #: The step whose body it is in; None at the top.
    container: str | None
    #: Which iteration of that body.
    index: int

    @property
    def step(self) -> Step:
        """The step as the definition has it."""
        return self.body.steps[self.id]

    @property
    def inner(self) -> str:
        """What the paths of all iterations of its body begin with; empty at the top."""
        return self.prefix if self.prefix.endswith("/") else f"{self.container}[" if self.container else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """What a step's end brings about, with whole paths."""

    #: Rows to insert, as a JSON array for the settling statement.
    rows: str
    #: Joins to be decided after the commit.
    joins: tuple[str, ...]
    #: The step to be woken after the commit, if nothing of its body is open then, and what the paths of its body begin
    #: with; None when the end is not in sight.
    wakes: tuple[str, str] | None
    #: Whether a branch of the workflow itself may have ended.
    ends: bool
    #: Joins that some of the rows have lost the race to, if they are decided.
    races: tuple[str, ...] = ()
