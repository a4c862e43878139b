"""block: steps as one, so that a failure of any of them may be caught as the block's, as in try and catch."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.kinds.kind import Decision, Done, Plain, Situation, Spawn, Spec, broken, read
from orchestrator.model.definition import Step


class BlockSpec(Spec):
    """A block has nothing but its body."""


class Block(Plain):
    """Its output is that of its last step."""

    has_body: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        read(BlockSpec, step)

    def decide(self, situation: Situation) -> Decision:
        """Begin the body; later, be done or broken."""
        if situation.error is not None:
            return broken(situation.error)
        if situation.resume is None:
            return Spawn(resume={})
        return Done(output=situation.result(0))
