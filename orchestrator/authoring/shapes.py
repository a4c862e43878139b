"""Control flow in Python: choices, loops, blocks, delays, signals, events, other workflows, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import Unpack

from orchestrator.authoring.forms import OTHERWISE, THEN, cases_of
from orchestrator.authoring.nodes import Node
from orchestrator.authoring.steps import (
    ActivityRef,
    CompensationSpec,
    Duration,
    Placing,
    Retry,
    compensation_fields,
    given,
    placed,
    sequence_of,
)
from orchestrator.authoring.workflow import Workflow
from orchestrator.model.definition import CompensateOn


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case of a choice; made by `case`."""

    condition: str | bool
    nodes: tuple[Node, ...]
    exit: str | None


def case(condition: str | bool, *nodes: Node, exit: str | None = None) -> Case:  # noqa: A002 - the definition's word
    """Nodes for when a condition holds, for `choice`. Without any, what comes behind the choice goes on.

    Args:
        condition: a {{ }} value that is true or false.
        exit: the exit that the choice ends by; by default `case_1`, `case_2` and so on.
    """
    return Case(condition=condition, nodes=nodes, exit=exit)


def choice(
    id: str,  # noqa: A002 - the definition's word
    *cases: Case,
    default: Sequence[Node] | Node = (),
    default_on_error: bool | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """The first case whose condition holds, else the default. What comes behind it follows whichever was taken.

    Args:
        default: nodes for when no condition holds.
        default_on_error: take the default, too, when a condition cannot be computed; otherwise the step fails.
        placing: see `Placing`.
    """
    named = [(each.exit or f"case_{number}", each) for number, each in enumerate(cases, 1)]
    spec = cases_of((name, each.condition) for name, each in named) | given(default_on_error=default_on_error)
    exits = {name: each.nodes for name, each in named if each.nodes}
    if nodes := sequence_of(default):
        exits[OTHERWISE] = nodes
    return placed({"id": id, "kind": "choice", "spec": spec}, placing, exits=exits)


def when(
    id: str,  # noqa: A002 - the definition's word
    condition: str | bool,
    then: Sequence[Node] | Node,
    otherwise: Sequence[Node] | Node = (),
    **placing: Unpack[Placing],
) -> Node:
    """If and else: a choice with the exits `then` and `default`."""
    return choice(id, case(condition, *sequence_of(then), exit=THEN), default=otherwise, **placing)


def each(
    id: str,  # noqa: A002 - the definition's word
    items: str | Sequence[Any],
    *nodes: Node,
    concurrency: int | None = None,
    max_iterations: int | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """The nodes once for every item of a list; they refer to `{{ item }}` and `{{ index }}`, which counts from 0. Its
    output is the list of what the iterations gave.

    Args:
        concurrency: iterations at the same time; by default one after another.
        max_iterations: a longer list fails the step before anything is done.
        placing: see `Placing`.
    """
    spec = given(items=items, concurrency=concurrency, max_iterations=max_iterations)
    return placed({"id": id, "kind": "each", "spec": spec}, placing, body=nodes)


def repeat(
    id: str,  # noqa: A002 - the definition's word
    *nodes: Node,
    until: str | bool | None = None,
    while_: str | bool | None = None,
    max_iterations: int | None = None,
    pause: Duration | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """The nodes again and again. Its output is that of the last iteration.

    Args:
        until: end when this holds, asked after each iteration; may refer to the nodes and to `{{ index }}`.
        while_: go on as long as this holds, asked before each iteration.
        max_iterations: one more fails the step.
        pause: how long to wait between two iterations.
        placing: see `Placing`.
    """
    spec = given(until=until, max_iterations=max_iterations, pause=pause)
    spec |= {} if while_ is None else {"while": while_}
    return placed({"id": id, "kind": "repeat", "spec": spec}, placing, body=nodes)


def block(id: str, *nodes: Node, **placing: Unpack[Placing]) -> Node:  # noqa: A002 - the definition's word
    """Nodes as one step: with `catch` the failure of any of them is handled as the block's, as by try and catch."""
    return placed({"id": id, "kind": "block"}, placing, body=nodes)


def delay(
    id: str,  # noqa: A002 - the definition's word
    duration: Duration | None = None,
    *,
    until: Any = None,
    **placing: Unpack[Placing],
) -> Node:
    """Wait some time, or until a time: text in ISO 8601 with its zone, or a datetime with one; or {{ }} values."""
    spec = given(until=until) if duration is None else {"for": duration, **given(until=until)}
    return placed({"id": id, "kind": "delay", "spec": spec}, placing)


def wait(
    id: str,  # noqa: A002 - the definition's word
    signal: str,
    *,
    correlation: str | None = None,
    timeout: Duration | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """Wait for a signal, approval or event by its name. Its output is the payload.

    Args:
        correlation: wait for an event with this correlation, whoever emits it, instead of a signal to the execution.
        timeout: give up after so long, with the error `WaitTimedOut` of category timeout; `catch` it to go on.
        placing: see `Placing`.
    """
    spec = given(signal=signal, correlation=correlation, timeout=timeout)
    return placed({"id": id, "kind": "wait", "spec": spec}, placing)


def emit(
    id: str,  # noqa: A002 - the definition's word
    event: str,
    payload: Any = None,
    *,
    correlation: str,
    **placing: Unpack[Placing],
) -> Node:
    """Emit an event that executions wait for by its name and correlation."""
    spec = given(event=event, payload=payload, correlation=correlation)
    return placed({"id": id, "kind": "emit", "spec": spec}, placing)


def subworkflow(
    id: str,  # noqa: A002 - the definition's word
    workflow: Workflow | str,
    input: Any = None,  # noqa: A002 - the definition's word
    *,
    version: int | None = None,
    detached: bool | None = None,
    timeout: Duration | None = None,
    compensation: CompensationSpec | ActivityRef | None = None,
    compensate_on: CompensateOn | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """Another workflow as a step. Its output is the other's.

    Args:
        workflow: the workflow, or its name.
        version: by default the newest.
        detached: go on as soon as it is started; the output is then its execution's id.
        timeout: how long it may take.
        placing: see `Placing`.
    """
    name = workflow.name if isinstance(workflow, Workflow) else workflow
    spec = given(workflow=name, version=version, input=input, detached=detached, timeout=timeout)
    fields: Mapping[str, Any] = given(
        id=id,
        kind="workflow",
        spec=spec,
        compensation=compensation_fields(compensation),
        compensate_on=compensate_on,
    )
    return placed(fields, placing)


def fail(
    id: str,  # noqa: A002 - the definition's word
    message: str,
    *,
    name: str | None = None,
    category: Literal["business", "transient", "system", "timeout"] | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """Fail, with a message that may hold {{ }} values, and a name and category that handlers catch it by."""
    spec = given(message=message, name=name, category=category)
    return placed({"id": id, "kind": "fail", "spec": spec}, placing)


def task(
    id: str,  # noqa: A002 - the definition's word
    task: Any,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the definition's word
    *,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    heartbeat_timeout: Duration | None = None,
    start_timeout: Duration | None = None,
    compensation: CompensationSpec | ActivityRef | None = None,
    compensate_on: CompensateOn | None = None,
    **placing: Unpack[Placing],
) -> Node:
    """A Celery task of your own as a step: its message, its queue and its retries are what they are elsewhere.

    Args:
        task: the task, or the name that Celery knows it by.
        input: its parameters by name; strings may hold {{ }} values.
        retry: what follows when it has failed for good, its own retries used up; by default nothing does.
        timeout: how long one call may take.
        heartbeat_timeout: how long it may go without a `current_step().heartbeat()`.
        start_timeout: how long it may be ready without a worker taking it up.
        compensation: what undoes it: `compensation(...)`, or just an activity.
        compensate_on: when it must be undone.
        placing: see `Placing`; by default its queue is the one that your application sends it to.
    """
    fields: Mapping[str, Any] = given(
        id=id,
        kind="task",
        spec={"task": task if isinstance(task, str) else task.name},
        input=input,
        retry=retry,
        timeout=timeout,
        heartbeat_timeout=heartbeat_timeout,
        start_timeout=start_timeout,
        compensation=compensation_fields(compensation),
        compensate_on=compensate_on,
    )
    return placed(fields, placing)
