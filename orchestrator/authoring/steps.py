"""Steps in Python: those that call an activity or are of any kind, their compensations and handlers, and blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from typing_extensions import TypedDict, Unpack

from orchestrator.authoring.nodes import Handler, Node, ParallelNode, SequenceNode, StepNode, listed, step_node
from orchestrator.model.activity import name_of
from orchestrator.model.definition import Catch, CompensateOn, Join, OnError
from orchestrator.model.policy import RetryPolicy

#: A decorated function, or an activity's name.
ActivityRef: TypeAlias = Callable[..., Any] | str
#: A policy, or the number of attempts in all.
Retry: TypeAlias = RetryPolicy | int
#: Seconds, a text such as `90s`, `1h30m` or `7d`, or a timedelta.
Duration: TypeAlias = Any


@dataclass(frozen=True, kw_only=True)
class CompensationSpec:
    """What undoes a step; made by `compensation`."""

    #: The fields of the definition's compensation.
    fields: Mapping[str, Any]


class Placing(TypedDict, total=False):
    """Options of every step, of whatever kind.

    after: what it comes after, ids or `id:exit`; by default the previous node of the sequence, or every end of that;
        [] means that the step starts the workflow, or the body that it stands in.
    join: which of those must have succeeded: `all` that were not skipped, `any` or a number; `settled`: all have ended.
    on_error: what a failure for good means: `compensate`, `stop`, `continue` or, for activities, `retry`.
    catch: handlers of errors; see `handle`.
    fallback: nodes that handle every error that `catch` does not.
    queue: the queue whose workers carry it out.
    fuse: whether it may share a Celery task with its neighbours.
    """

    after: Sequence[str] | str | None
    join: Join | None
    on_error: OnError | None
    catch: Sequence[Handler | Catch] | Handler | Catch | None
    fallback: Sequence[Node] | Node | None
    queue: str | None
    fuse: bool | None


def step(
    id: str,  # noqa: A002 - the definition's word
    activity: ActivityRef,
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
    """A step that calls an activity.

    Args:
        input: parameters by name; strings may hold {{ }} values.
        timeout: how long one attempt may take.
        heartbeat_timeout: how long it may go without a `ctx.heartbeat()`.
        start_timeout: how long it may be ready without a worker taking it up.
        compensation: what undoes it: `compensation(...)`, or just an activity.
        compensate_on: when it must be undone; None leaves that to the kind of activity.
        placing: see `Placing`.

    Raises:
        ConfigurationError: a function that is no activity.
    """
    fields = given(
        id=id,
        activity=name_of(activity),
        input=input,
        retry=retry,
        timeout=timeout,
        heartbeat_timeout=heartbeat_timeout,
        start_timeout=start_timeout,
        compensation=compensation_fields(compensation),
        compensate_on=compensate_on,
    )
    return placed(fields, placing)


def node(
    id: str,  # noqa: A002 - the definition's word
    kind: str,
    spec: Mapping[str, Any] | None = None,
    *nodes: Node,
    exits: Mapping[str, Sequence[Node]] | None = None,
    compensation: CompensationSpec | ActivityRef | None = None,
    **fields: Any,
) -> Node:
    """A step of any kind, such as one that has no function here.

    Args:
        spec: what the kind needs to know.
        nodes: the body, of a kind that has one.
        exits: what follows which of the kind's exits.
        fields: any other field of a step; see also `Placing`.
    """
    own = given(id=id, kind=kind, spec=spec, compensation=compensation_fields(compensation))
    return placed(own, fields, body=nodes or None, exits=exits)


def compensation(
    activity: ActivityRef,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the definition's word
    *,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    queue: str | None = None,
) -> CompensationSpec:
    """The activity that undoes a step. Its input may refer to `{{ undo.input }}`, `{{ undo.output }}`, which is null
    when the outcome is unknown, and `{{ undo.error }}` of the step."""
    found = given(activity=name_of(activity), input=input, retry=retry, timeout=timeout, queue=queue)
    return CompensationSpec(fields=found)


def handle(*nodes: Node, errors: Sequence[str] | str = (), exit: str | None = None) -> Handler:  # noqa: A002
    """A handler, for `catch`: nodes that follow a step that has failed for good. Without any, what comes behind the
    step goes on as if it had succeeded.

    Args:
        errors: the categories (business, transient, system, timeout, cancelled) and names of errors that it handles;
            none: all.
        exit: the exit that the step ends by, for others that come `after` it: `<step>:<exit>`; by default `error`,
            then `error_2` and so on.
    """
    return Handler(fields=given(errors=listed(errors) or None, exit=exit), nodes=nodes)


def parallel(*branches: Node) -> Node:
    """Branches that start together: steps, or sequences. The next node comes after all of them."""
    return ParallelNode(branches=branches)


def sequence(*nodes: Node) -> Node:
    """Nodes one after another, as a branch of a parallel block."""
    return SequenceNode(nodes=nodes)


def given(**fields: Any) -> dict[str, Any]:
    """Those that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def placed(
    fields: Mapping[str, Any],
    placing: Mapping[str, Any],
    *,
    body: Iterable[Node] | None = None,
    exits: Mapping[str, Iterable[Node]] | None = None,
) -> StepNode:
    """A step's node from its own fields and the options that every step has."""
    options = dict(placing)
    catch, fallback = options.pop("catch", None), options.pop("fallback", None)
    return step_node(
        {**fields, **given(**options)},
        body=body,
        exits=exits,
        catch=sequence_of(catch),
        fallback=None if fallback is None else sequence_of(fallback),
    )


def sequence_of(value: Any) -> tuple[Any, ...]:
    """A sequence's items, the one value that is none, or nothing for None."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def compensation_fields(found: CompensationSpec | ActivityRef | None) -> Mapping[str, Any] | None:
    """The fields of a definition's compensation."""
    if found is None:
        return None
    return found.fields if isinstance(found, CompensationSpec) else {"activity": name_of(found)}
