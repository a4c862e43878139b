"""The contract of a step kind: from what a claim tells it to a decision, as data. Pure.

A kind is made once for each step of a definition, and asked each time that a worker has claimed such a step: the first
time, and again whenever the step was woken. What it decides is carried out, with the claim's token, by the worker
(runtime/control.py). Between two claims nothing of it is in memory anywhere: what it must remember is `resume`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.errors import DefinitionError, ExpressionError
from orchestrator.expressions import Template, compile_value
from orchestrator.model.definition import Step
from orchestrator.model.outcome import Failure


class Value(Protocol):
    """Computes a template."""

    def __call__(self, template: Template, iteration: int | None = None, own: Mapping[str, Any] | None = None) -> Any:
        """ExpressionError when the value cannot be had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """A claimed step, as its kind sees it."""

    #: The step's path within the execution.
    path: str
    #: What the kind left behind when it last let go of the step; None at the first claim.
    resume: Any
    #: What woke the step: due (its time), body (all of its body has ended), signal, child; None at the first claim.
    woken_by: str | None
    #: The error that broke the body off; None while it has not.
    error: Mapping[str, Any] | None
    #: Computes a template in the scope of the step, or in that of an iteration of its body, with names of its own.
    value: Value
    #: What an iteration of its body gave: the last step's output, or all last steps' by id.
    result: Callable[[int], Any]

    def plain(self, template: Template) -> Any:
        """A template's value in the step's own scope."""
        return self.value(template)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The step has succeeded."""

    output: Any = None
    #: By which exit; None is the ordinary one.
    exit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The step has failed; its retry policy has no say."""

    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Park:
    """Let go of the step until it is woken."""

    resume: Any
    #: Wake it after so many seconds.
    seconds: float | None = None
    #: Wake it at this time, an ISO 8601 text with its zone.
    until: str | None = None
    #: Also wake it for a signal of this name.
    signal: str | None = None
    #: Only for a signal or event with this correlation; None takes those sent to the execution itself.
    correlation: str | None = None
    #: Also wake it for the next event of a machine.
    events: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Spawn:
    """Begin bodies side by side, and let go of the step until all of them have ended."""

    resume: Any
    #: The first iteration of each lane (kinds/each.py); (0,) for a kind with one body.
    iterations: tuple[int, ...] = (0,)
    #: Seconds after which the step is woken all the same.
    seconds: float | None = None
    #: Of a machine: the number of the transition whose steps are the body, and what their paths begin with.
    transition: int | None = None
    inner: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Break:
    """Break off the body, and be woken by the failure once nothing of it is open."""

    failure: Failure
    inner: str
    resume: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Enter:
    """Record a machine's state, and decide again."""

    state: str
    resume: Any
    #: What the history says of it.
    data: Mapping[str, Any]
    #: Undo everything instead of deciding again.
    back: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """Record that an event was not taken after all."""

    name: str
    actor: str | None
    reason: str
    then: Park


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Start an execution of another workflow."""

    workflow: str
    version: int | None
    input: Any
    #: Whether to go on at once; otherwise the step is let go of until the child has ended.
    detached: bool
    #: Seconds that it may take; None takes its definition's.
    timeout: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Emit:
    """Record an event that others wait for, and succeed."""

    name: str
    payload: Any
    correlation: str


Decision: TypeAlias = Done | Failed | Park | Spawn | Start | Emit | Break | Enter | Refuse


class Kind(Protocol):
    """One step's kind, made ready for use."""

    #: Whether its steps hold a body.
    has_body: ClassVar[bool]
    #: Whether what its steps do is known to others than the ledger's rows about this execution.
    reaches_out: ClassVar[bool]
    #: Names that its body may use beside those around it.
    names: ClassVar[frozenset[str]]
    #: Whether its steps take an input and make attempts, as activities do.
    makes_attempts: ClassVar[bool]

    def __init__(self, step: Step) -> None:
        """Read the step's `spec`; ValueError says what is wrong with it, and the fix."""

    @property
    def exits(self) -> tuple[str, ...]:
        """Its exits beside the ordinary one."""

    @property
    def templates(self) -> tuple[Template, ...]:
        """Values computed in the scope of the step."""

    @property
    def inner_templates(self) -> tuple[Template, ...]:
        """Values computed in the scope of an iteration of its body."""

    def decide(self, situation: Situation) -> Decision:
        """What to do with a claimed step; ExpressionError when a value cannot be had."""


class Spec(BaseModel):
    """The fields of a kind's `spec`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Spec)


class Plain:
    """Defaults of kinds that have no body, no exits and no values."""

    has_body: ClassVar[bool] = False
    reaches_out: ClassVar[bool] = False
    names: ClassVar[frozenset[str]] = frozenset()
    makes_attempts: ClassVar[bool] = False
    exits: tuple[str, ...] = ()
    templates: tuple[Template, ...] = ()
    inner_templates: tuple[Template, ...] = ()


def read(spec: type[S], step: Step) -> S:
    """A step's spec; ValueError with one sentence for each field that does not fit."""
    try:
        return spec.model_validate(step.spec)
    except ValidationError as error:
        known = ", ".join(field.alias or name for name, field in spec.model_fields.items())
        lines = []
        for details in error.errors(include_url=False):
            place = ".".join(map(str, details["loc"]))
            if details["type"] == "extra_forbidden":
                lines.append(f'unknown key "{place}"; known are {known}')
            elif details["type"] == "value_error":
                lines.append(details["msg"].removeprefix("Value error, "))
            elif details["type"] == "missing":
                lines.append(f'"{place}" is missing; add it')
            else:
                lines.append(f'"{place}": {details["msg"]}; correct it')
        raise ValueError("; ".join(lines)) from None


def template(value: Any, what: str) -> Template:
    """A compiled value; ValueError names what it is of."""
    try:
        return compile_value(value)
    except (ExpressionError, DefinitionError) as error:
        raise ValueError(f"{what}: {error}") from None


def failure(name: str, message: str, category: str = "business") -> Failed:
    """A failure of the definition's or the data's own making."""
    return Failed(failure=Failure(category=category, name=name, message=message))


def broken(error: Mapping[str, Any]) -> Failed:
    """The failure of a body, as its step's."""
    return Failed(
        failure=Failure(
            category=str(error.get("category", "system")),
            name=str(error.get("name", "Error")),
            message=str(error.get("message", "")),
            traceback=str(error.get("traceback", "")),
            step=str(error.get("step", "")),
        )
    )
