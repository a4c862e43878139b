"""fail: ends its branch with an error of the author's own."""

from __future__ import annotations

from typing import Literal

from orchestrator.kinds.kind import Decision, Plain, Situation, Spec, failure, read, template
from orchestrator.model.definition import Step
from orchestrator.sealed import shown


class FailSpec(Spec):
    """The error."""

    #: May be an expression.
    message: str
    #: What handlers catch it by.
    name: str = "Failed"
    category: Literal["business", "transient", "system", "timeout"] = "business"


class Fail(Plain):
    """Fails."""

    def __init__(self, step: Step) -> None:
        self._spec = read(FailSpec, step)
        self._message = template(self._spec.message, "message")
        self.templates = (self._message,)

    def decide(self, situation: Situation) -> Decision:
        """Always a failure."""
        return failure(self._spec.name, str(shown(situation.plain(self._message))), self._spec.category)
