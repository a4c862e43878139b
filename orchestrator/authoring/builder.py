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

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import PydanticUserError, TypeAdapter
from typing_extensions import TypedDict, Unpack

from orchestrator.authoring.assemble import assemble
from orchestrator.authoring.machines import machine_node, transition_node
from orchestrator.authoring.nodes import Node, TransitionNode
from orchestrator.authoring.steps import Duration, Retry, compensation, given, parallel, sequence, step
from orchestrator.authoring.workflow import Workflow
from orchestrator.errors import DefinitionError
from orchestrator.model.policy import ErrorRule

__all__ = ["Workflow", "compensation", "machine", "parallel", "sequence", "step", "transition", "workflow"]


class Options(TypedDict, total=False):
    """Options of every workflow.

    version: raise it when the content changes.
    description: for people.
    input: what an execution's input must be: a type, such as a pydantic model, or a JSON Schema.
    output_type: the same for the output.
    output: the output, with {{ }} values; None gives the last step's output, or all last steps' by id.
    signals: the same as input for the payloads of signals and events, by name.
    errors: what exceptions are to be taken for that do not say it themselves: `ErrorRule`s, the first that means one
        counts.
    retry, step_timeout, queue, fuse: what holds for steps that say nothing themselves.
    timeout: how long a whole execution may take, 0 is without end; by default 300 seconds, for machines without end.
    execution_retry: take a failed execution up again, from the step that failed; `max_attempts` counts the first time.
    on_cancel, on_timeout: `stop` leaves what was done when an execution is cancelled, or takes too long, instead of
        undoing it.
    on_compensation_failure: `stop` leaves the rest when a compensation has failed for good, instead of going on.
    """

    version: int
    description: str
    input: Any
    output_type: Any
    output: Any
    signals: Mapping[str, Any] | None
    errors: Sequence[ErrorRule | Mapping[str, Any]] | None
    retry: Retry | None
    timeout: Duration | None
    step_timeout: Duration | None
    queue: str | None
    fuse: bool
    execution_retry: Retry | None
    on_cancel: Literal["compensate", "stop"]
    on_timeout: Literal["compensate", "stop"]
    on_compensation_failure: Literal["continue", "stop"]


def workflow(name: str, *nodes: Node, **options: Unpack[Options]) -> Workflow:
    """A workflow of nodes, one after another; for the options see `Options`.

    Raises:
        DefinitionError: every field that does not fit.
    """
    source = f"workflow {name}"
    return Workflow(definition=assemble(source, _fields(source, name, options), nodes))


def machine(
    name: str,
    *,
    initial: str,
    states: Sequence[str] | Mapping[str, Any],
    transitions: Iterable[TransitionNode],
    final: Sequence[str] | str = (),
    **options: Unpack[Options],
) -> Workflow:
    """A workflow as a state machine, moved by events, time and conditions.

    Args:
        initial: the state that an execution begins in.
        states: their names, or by name what the definition knows of them: `{"CLOSED": {"final": True}}`.
        final: the states that end an execution.
        transitions: made by `transition`.
        options: see `Options`.

    Raises:
        DefinitionError: every field that does not fit.
    """
    source = f"machine {name}"
    found = machine_node({"initial": initial, "states": states, "final": final}, transitions)
    return Workflow(definition=assemble(source, _fields(source, name, options), (), machine=found))


def transition(
    source: str | Sequence[str],
    to: str,
    *,
    event: str | None = None,
    actors: Sequence[str] | str | None = None,
    condition: str | bool | None = None,
    after: Duration | None = None,
    steps: Sequence[Node] = (),
    timeout: Duration | None = None,
    compensate: bool | None = None,
) -> TransitionNode:
    """From one state, or any of some, to another; `*` stands for every state that is not final. Without `event` and
    `after` it is taken by itself, as soon as its condition holds.

    Args:
        event: the event that takes it.
        actors: roles that may send the event; by default anybody.
        condition: must hold; may refer to `{{ event.payload }}` and `{{ event.actor }}`.
        after: taken so long after the state was entered.
        steps: nodes to carry out; the state changes when they have succeeded.
        timeout: how long those may take.
        compensate: undo every step so far, in reverse order, and end as compensated.
    """
    fields = given(event=event, actors=actors, condition=condition, after=after, timeout=timeout, compensate=compensate)
    return transition_node({"from": source, "to": to, **fields}, steps)


def _fields(source: str, name: str, options: Options) -> dict[str, Any]:
    fields = dict(options)
    schemas = given(
        input_schema=_schema(source, "input", fields.pop("input", None), "validation"),
        output_schema=_schema(source, "output_type", fields.pop("output_type", None), "serialization"),
    )
    signals = options.get("signals")
    if isinstance(signals, Mapping):
        fields["signals"] = {
            name: _schema(source, f"signals.{name}", found, "validation") for name, found in signals.items()
        }
    return {"name": name, **schemas, **given(**fields)}


def _schema(source: str, what: str, found: Any, mode: Literal["validation", "serialization"]) -> dict[str, Any] | None:
    """The JSON Schema of a type; a JSON Schema is its own."""
    if found is None or isinstance(found, dict):
        return found
    try:
        return TypeAdapter(found).json_schema(mode=mode)
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise DefinitionError(
            source, [f"{what}: {found!r} has no JSON Schema: {reason}; give a pydantic model"]
        ) from None
