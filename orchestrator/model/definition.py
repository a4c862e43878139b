"""What a workflow is: the one canonical form that Python, YAML and JSON all load into.

Steps are flat and say which steps they come after; sequences, parallel blocks, branches and handlers exist only in the
authoring forms. A step that holds others (a loop, a block) has them as a body of its own, flat again.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from orchestrator.model.payload import canonical
from orchestrator.model.policy import ErrorRule, RetryPolicy

#: When a step's effect must be undone: once an attempt was made, or only once it has succeeded.
CompensateOn: TypeAlias = Literal["attempted", "completed"]
#: A step's name: it is part of paths, so it has no dot, slash, colon or bracket.
StepId: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=100)]
#: A step to come after, and the exit by which it must have ended: `reserve`, `route:express`, `charge:error`. Without
#: an exit it must have succeeded (or failed with `on_error: continue`).
Edge: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*(:[A-Za-z_][A-Za-z0-9_-]*)?$", max_length=201)]
#: Which of the steps before must have succeeded: all that were not skipped; none, as long as all have ended; the first
#: of them; or so many. With `any` and a number, the others are cancelled.
Join: TypeAlias = Literal["all", "settled", "any"] | PositiveInt
#: What a step's failure for good means: undo what was done and end; end as it is; go on with a null output; try again
#: for ever.
OnError: TypeAlias = Literal["compensate", "stop", "continue", "retry"]
#: A queue's name.
Queue: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=100)]


#: Seconds that an execution of a workflow may take which says nothing itself.
DEFAULT_TIMEOUT = 300.0


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


class Catch(_Model):
    """Errors that do not fail the execution: the step ends by an exit of its own, and handlers come after that."""

    #: Categories or names of errors; none catches every error.
    errors: tuple[str, ...] = ()
    #: The exit: handlers come after `<step>:<exit>`.
    exit: StepId = "error"


class Step(_Model):
    """A node of the workflow: calls an activity, or does what its kind says (orchestrator/kinds)."""

    id: StepId
    kind: str = "activity"
    activity: str | None = None
    #: Parameters, by name; strings may hold {{ }} values.
    input: dict[str, Any] = Field(default_factory=dict)
    #: What a kind other than `activity` needs to know.
    spec: dict[str, Any] = Field(default_factory=dict)
    #: The body of a kind that has one: a loop's, a block's.
    steps: tuple[Step, ...] = ()
    #: What must have ended before this one starts; none means that it starts the workflow or the body.
    after: tuple[Edge, ...] = ()
    join: Join = "all"
    on_error: OnError = "compensate"
    catch: tuple[Catch, ...] = ()
    retry: RetryPolicy | None = None
    #: Seconds one attempt may take.
    timeout: PositiveFloat | None = None
    #: Seconds an attempt may let pass between two calls of `ctx.heartbeat`; it is given up when it does.
    heartbeat_timeout: PositiveFloat | None = None
    #: Seconds that it may be ready without a worker having begun it.
    start_timeout: PositiveFloat | None = None
    queue: Queue | None = None
    #: Whether the step may share a Celery task with its neighbours; None takes the definition's word.
    fuse: bool | None = None
    compensation: Compensation | None = None
    #: None: completed for transactional activities, attempted for others, whose outcome may be unknown.
    compensate_on: CompensateOn | None = None

    @model_validator(mode="after")
    def _complete(self) -> Step:
        if self.kind == "activity" and not self.activity:
            raise ValueError("an activity is missing; name one")
        return self

    def catches(self, category: str, name: str) -> str | None:
        """The exit by which a failure for good ends this step; None when it is not caught."""
        for catch in self.catch:
            if not catch.errors or category in catch.errors or name in catch.errors:
                return catch.exit
        return None


#: A state's or an event's name.
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=100)]


class Transition(_Model):
    """From one of some states to another: by an event, by time, or by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    #: States that it leaves; `*` stands for every state that is not final.
    from_: tuple[Name | Literal["*"], ...] = Field(alias="from", min_length=1)
    #: The event that takes it; None for one that is taken by itself, or after a time.
    event: Name | None = None
    to: Name
    #: Roles that may send the event; none means anybody.
    actors: tuple[str, ...] = ()
    #: Must hold, {{ }}; may refer to `{{ event.payload }}` and `{{ event.actor }}`.
    condition: str | bool | None = None
    #: Taken this many seconds after the state was entered.
    after: PositiveFloat | None = None
    #: Steps to carry out; the state changes when they have succeeded. Their ids are unique in the machine.
    steps: tuple[Step, ...] = ()
    #: Seconds that the steps may take.
    timeout: PositiveFloat | None = None
    #: Undo every step so far, in reverse order, and end as compensated.
    compensate: bool = False


class State(_Model):
    """A state of a machine."""

    #: The execution ends here.
    final: bool = False


class Machine(_Model):
    """An execution as a state machine, moved by events, actors, conditions and time."""

    initial: Name
    states: dict[Name, State] = Field(min_length=1)
    transitions: tuple[Transition, ...] = ()


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
    steps: tuple[Step, ...] = ()
    #: In the place of steps.
    machine: Machine | None = None
    #: JSON Schemas that the payloads of signals and events must satisfy, by name.
    signals: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    #: What exceptions are to be taken for that do not say it themselves; the first entry that means one counts.
    errors: tuple[ErrorRule, ...] = ()
    #: Defaults of the steps that say nothing themselves.
    retry: RetryPolicy | None = None
    #: Seconds one attempt of a step may take.
    step_timeout: PositiveFloat | None = None
    #: A failed execution is retried as a whole, from the step that failed, so often and after such a wait.
    execution_retry: RetryPolicy | None = None
    #: Whether what was done is undone when an execution is cancelled: compensate or stop.
    on_cancel: Literal["compensate", "stop"] = "compensate"
    #: Whether what was done is undone when an execution passes its deadline: compensate or stop.
    on_timeout: Literal["compensate", "stop"] = "compensate"
    #: When a compensation has failed for good: go on with the rest, or leave it as it is.
    on_compensation_failure: Literal["continue", "stop"] = "continue"
    #: Seconds a whole execution may take, from its first start on; 0 is without end. Not given: 300 for workflows,
    #: without end for machines.
    timeout: NonNegativeFloat | None = None
    queue: Queue | None = None
    fuse: bool = True

    @model_validator(mode="after")
    def _complete(self) -> Definition:
        if bool(self.steps) == (self.machine is not None):
            raise ValueError("a definition has either steps or a machine; give one of them")
        return self

    @property
    def deadline(self) -> float | None:
        """Seconds that an execution may take unless its start says otherwise; None is without end."""
        if self.timeout is None:
            return None if self.machine is not None else DEFAULT_TIMEOUT
        return self.timeout or None

    def spec(self) -> dict[str, Any]:
        """The definition as JSON data without defaults: what is stored, compared and dumped."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def checksum(self) -> str:
        """SHA-256 of the content, the version aside, so that a mere change of number is no change."""
        content = {key: value for key, value in self.spec().items() if key != "version"}
        return hashlib.sha256(canonical(content).encode()).hexdigest()
