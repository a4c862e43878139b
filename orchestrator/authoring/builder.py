"""Workflows in Python.

order = workflow(
    "order",
    step("reserve", reserve_stock, {"lines": "{{ input.lines }}"}, compensation=release_stock),
    parallel(step("charge", charge_card), sequence(step("pick", pick_goods), step("pack", pack_goods))),
    step("ship", ship_goods),
    input=Order,
)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import PydanticUserError, TypeAdapter

from orchestrator.authoring.nodes import Node, ParallelNode, SequenceNode, assemble, step_node
from orchestrator.current import get_current
from orchestrator.errors import DefinitionError
from orchestrator.model.activity import name_of
from orchestrator.model.definition import CompensateOn, Definition
from orchestrator.model.policy import RetryPolicy

#: A decorated function, or an activity's name.
ActivityRef: TypeAlias = Callable[..., Any] | str
#: A policy, or the number of attempts in all.
Retry: TypeAlias = RetryPolicy | int


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A definition that can be started by itself. Modules hold it under a name, where discovery finds it."""

    #: The canonical form.
    definition: Definition

    @property
    def name(self) -> str:
        """The definition's name."""
        return self.definition.name

    def start(self, input: Any = None, **options: Any) -> Any:  # noqa: A002 - the facade's word
        """Start an execution through the process's orchestrator; takes the options of `Orchestrator.start`.

        Raises:
            ConfigurationError: the process has no orchestrator.
        """
        return get_current().start(self.name, input, **options)

    def delay(self, **input: Any) -> Any:  # noqa: A002 - the facade's word
        """Start an execution whose input is the keywords; ConfigurationError when the process has no orchestrator."""
        return self.start(input)


@dataclass(frozen=True, kw_only=True)
class CompensationSpec:
    """What undoes a step; made by `compensation`."""

    #: The fields of the definition's compensation.
    fields: Mapping[str, Any]


def step(
    id: str,  # noqa: A002 - the definition's word
    activity: ActivityRef,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the definition's word
    *,
    after: Sequence[str] | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    queue: str | None = None,
    fuse: bool | None = None,
    compensation: CompensationSpec | ActivityRef | None = None,
    compensate_on: CompensateOn | None = None,
) -> Node:
    """A step that calls an activity.

    Args:
        input: parameters by name; strings may hold {{ }} values.
        after: ids of the steps that must have succeeded; None means the previous node of the sequence, or every end of
            it when it is a parallel block; [] means that the step starts the workflow.
        timeout: seconds one attempt may take.
        fuse: whether it may share a Celery task with its neighbours.
        compensation: what undoes it: `compensation(...)`, or just an activity.
        compensate_on: when it must be undone; None leaves that to the kind of activity.

    Raises:
        ConfigurationError: a function that is no activity.
    """
    fields = _given(
        id=id,
        activity=name_of(activity),
        input=input,
        after=after,
        retry=retry,
        timeout=timeout,
        queue=queue,
        fuse=fuse,
        compensation=_compensation_fields(compensation),
        compensate_on=compensate_on,
    )
    return step_node(fields)


def compensation(
    activity: ActivityRef,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the definition's word
    *,
    retry: Retry | None = None,
    timeout: float | None = None,
    queue: str | None = None,
) -> CompensationSpec:
    """The activity that undoes a step. Its input may refer to `{{ undo.input }}`, `{{ undo.output }}`, which is null
    when the outcome is unknown, and `{{ undo.error }}` of the step."""
    given = _given(activity=name_of(activity), input=input, retry=retry, timeout=timeout, queue=queue)
    return CompensationSpec(fields=given)


def parallel(*branches: Node) -> Node:
    """Branches that start together: steps, or sequences. The next node comes after all of them."""
    return ParallelNode(branches=branches)


def sequence(*nodes: Node) -> Node:
    """Nodes one after another, as a branch of a parallel block."""
    return SequenceNode(nodes=nodes)


def workflow(
    name: str,
    *nodes: Node,
    version: int = 1,
    description: str = "",
    input: Any = None,  # noqa: A002 - the definition's word
    output_type: Any = None,
    output: Any = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    step_timeout: float | None = None,
    queue: str | None = None,
    fuse: bool = True,
) -> Workflow:
    """A workflow of nodes, one after another.

    Args:
        input: what an execution's input must be: a type, such as a pydantic model, or a JSON Schema.
        output_type: the same for the output.
        output: the output, with {{ }} values; None gives the last step's output, or all last steps' by id.
        retry, step_timeout, queue, fuse: what holds for steps that say nothing themselves; seconds for one attempt.
        timeout: seconds a whole execution may take.

    Raises:
        DefinitionError: every field that does not fit.
    """
    source = f"workflow {name}"
    fields = _given(
        name=name,
        version=version,
        description=description,
        input_schema=_schema(source, "input", input, "validation"),
        output_schema=_schema(source, "output_type", output_type, "serialization"),
        output=output,
        retry=retry,
        timeout=timeout,
        step_timeout=step_timeout,
        queue=queue,
        fuse=fuse,
    )
    return Workflow(definition=assemble(source, fields, nodes))


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _compensation_fields(given: CompensationSpec | ActivityRef | None) -> Mapping[str, Any] | None:
    if given is None:
        return None
    return given.fields if isinstance(given, CompensationSpec) else {"activity": name_of(given)}


def _schema(source: str, what: str, given: Any, mode: Literal["validation", "serialization"]) -> dict[str, Any] | None:
    """The JSON Schema of a type; a JSON Schema is its own."""
    if given is None or isinstance(given, dict):
        return given
    try:
        return TypeAdapter(given).json_schema(mode=mode)
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise DefinitionError(
            source, [f"{what}: {given!r} has no JSON Schema: {reason}; give a pydantic model"]
        ) from None
