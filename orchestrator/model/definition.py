"""What a workflow is: the one canonical form that Python, YAML and JSON all load into.

Steps are flat and say which steps they come after; sequences and parallel blocks exist only in the authoring forms.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from orchestrator.model.payload import canonical
from orchestrator.model.policy import RetryPolicy

#: When a step's effect must be undone: once an attempt was made, or only once it has succeeded.
CompensateOn: TypeAlias = Literal["attempted", "completed"]
#: A step's name: it is part of paths, so it has no dot, slash, colon or bracket.
StepId: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=100)]
#: A queue's name.
Queue: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=100)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Compensation(_Model):
    """The activity that undoes a step. Its input may also refer to the step's own input and output: `{{ undo.input }}`,
    `{{ undo.output }}` (null when the outcome is unknown) and `{{ undo.error }}`."""

    activity: str
    #: Parameters, by name; strings may hold {{ }} values.
    input: dict[str, Any] = Field(default_factory=dict)
    retry: RetryPolicy | None = None
    #: Seconds one attempt may take.
    timeout: PositiveFloat | None = None
    queue: Queue | None = None


class Step(_Model):
    """A node of the workflow: calls one activity."""

    id: StepId
    kind: Literal["activity"] = "activity"
    activity: str
    #: Parameters, by name; strings may hold {{ }} values.
    input: dict[str, Any] = Field(default_factory=dict)
    #: Steps that must have succeeded before this one starts; none means that it starts the workflow.
    after: tuple[StepId, ...] = ()
    retry: RetryPolicy | None = None
    #: Seconds one attempt may take.
    timeout: PositiveFloat | None = None
    queue: Queue | None = None
    #: Whether the step may share a Celery task with its neighbours; None takes the definition's word.
    fuse: bool | None = None
    compensation: Compensation | None = None
    #: None: completed for transactional activities, attempted for others, whose outcome may be unknown.
    compensate_on: CompensateOn | None = None


class Definition(_Model):
    """A named, versioned workflow; immutable once published."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=200)]
    version: int = Field(default=1, ge=1)
    description: str = ""
    #: JSON Schema that an execution's input must satisfy.
    input_schema: dict[str, Any] | None = None
    #: JSON Schema that an execution's output must satisfy.
    output_schema: dict[str, Any] | None = None
    #: The execution's output, with {{ }} values; None gives the last step's output, or all last steps' by id.
    output: Any = None
    steps: tuple[Step, ...] = Field(min_length=1)
    #: Defaults of the steps that say nothing themselves.
    retry: RetryPolicy | None = None
    #: Seconds one attempt of a step may take.
    step_timeout: PositiveFloat | None = None
    #: Seconds a whole execution may take.
    timeout: PositiveFloat | None = None
    queue: Queue | None = None
    fuse: bool = True

    def spec(self) -> dict[str, Any]:
        """The definition as JSON data without defaults: what is stored, compared and dumped."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def checksum(self) -> str:
        """SHA-256 of the content, the version aside, so that a mere change of number is no change."""
        content = {key: value for key, value in self.spec().items() if key != "version"}
        return hashlib.sha256(canonical(content).encode()).hexdigest()
