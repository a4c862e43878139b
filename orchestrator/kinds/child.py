"""workflow: another workflow as a step. Awaited, it ends with the child; detached, once the child is started."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from orchestrator.durations import seconds
from orchestrator.kinds.kind import Decision, Done, Plain, Situation, Spec, Start, broken, read, template
from orchestrator.model.definition import Step


class WorkflowSpec(Spec):
    """Which workflow, and its input."""

    workflow: str
    version: int | None = Field(default=None, ge=1)
    #: The child's input, with {{ }} values.
    input: Any = None
    detached: bool = False
    #: The child may take this long; never longer than what its parent has left.
    timeout: float | str | None = None


class ChildWorkflow(Plain):
    """Its output is the child's; detached, the child's id."""

    #: The child has steps of its own, and is not known to a ledger that is older than it.
    reaches_out: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        self._spec = read(WorkflowSpec, step)
        self._input = template(self._spec.input, "input")
        self._timeout = None if self._spec.timeout is None else seconds(self._spec.timeout)
        self.templates = (self._input,)

    def decide(self, situation: Situation) -> Decision:
        """Start the child; later, end as it has ended."""
        if situation.error is not None:
            return broken(situation.error)
        resume = situation.resume
        if resume is not None and "output" in resume:
            return Done(output=resume["output"])
        spec = self._spec
        return Start(
            workflow=spec.workflow,
            version=spec.version,
            input=situation.plain(self._input),
            detached=spec.detached,
            timeout=self._timeout,
        )
