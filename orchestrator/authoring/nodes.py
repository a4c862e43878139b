"""Authoring nodes: what a workflow is written of, in whatever form.

A workflow is written as a sequence whose nodes are steps, parallel blocks and further sequences. A step may hold a body
(a loop's, a block's) and branches: nodes behind one of its exits, such as a case of a choice or a handler of an error.
The Python and the file form both build these nodes, and assemble.py flattens them, so that equal workflows give equal
definitions whatever form they are written in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from orchestrator.durations import seconds
from orchestrator.model.definition import Catch

#: Keys and indexes that lead to a place in a file.
Where: TypeAlias = tuple[str | int, ...]

#: Fields that are durations, as authors write them, wherever they stand.
_DURATIONS = ("timeout", "heartbeat_timeout", "start_timeout", "step_timeout", "backoff", "max_delay", "budget")
#: Fields that are retry policies.
_POLICIES = ("retry", "execution_retry")
#: The exit of a step's first handler, when it is given no other, and that of its fallback.
ERROR, FALLBACK = "error", "fallback"


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Nodes that follow a step when it has ended by one of its exits."""

    exit: str
    nodes: tuple[Node, ...]
    where: Where = ()


@dataclass(frozen=True, kw_only=True)
class StepNode:
    """A step as it was written."""

    #: The fields of the definition's step, `after` and `steps` aside.
    fields: Mapping[str, Any]
    #: What it comes after; None for the previous node of its sequence.
    after: Any = None
    #: The steps that it holds; None when nothing was written.
    body: tuple[Node, ...] | None = None
    branches: tuple[Branch, ...] = ()
    #: What is wrong with it so far, one sentence each.
    problems: tuple[str, ...] = ()
    #: Where it was written.
    where: Where = ()


@dataclass(frozen=True, kw_only=True)
class ParallelNode:
    """Branches that start together; what follows waits for the end of each."""

    branches: tuple[Node, ...]
    where: Where = ()


@dataclass(frozen=True, kw_only=True)
class SequenceNode:
    """Nodes of which each comes after the one before."""

    nodes: tuple[Node, ...]
    where: Where = ()


Node: TypeAlias = StepNode | ParallelNode | SequenceNode


@dataclass(frozen=True, kw_only=True)
class Handler:
    """What is done when errors of some kind end a step for good; `handle` makes it."""

    #: The fields of the definition's catch.
    fields: Mapping[str, Any]
    #: What follows; None when only the exit was named.
    nodes: tuple[Node, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TransitionNode:
    """A machine's transition as it was written."""

    #: The fields of the definition's transition, `steps` aside.
    fields: Mapping[str, Any]
    nodes: tuple[Node, ...] = ()
    problems: tuple[str, ...] = ()
    where: Where = ()


@dataclass(frozen=True, kw_only=True)
class MachineNode:
    """A machine as it was written."""

    #: The fields of the definition's machine, `transitions` aside.
    fields: Mapping[str, Any]
    transitions: tuple[TransitionNode, ...] = field(default_factory=tuple)


def step_node(
    fields: Mapping[str, Any],
    *,
    body: Iterable[Node] | None = None,
    exits: Mapping[str, Iterable[Node]] | None = None,
    catch: Sequence[Any] = (),
    fallback: Iterable[Node] | None = None,
    problems: Iterable[str] = (),
    where: Where = (),
) -> StepNode:
    """A step from its written fields, short forms included: a number for `retry`, a name for `compensation`, texts for
    durations.

    Args:
        body: the steps that it holds.
        exits: what follows which of its exits.
        catch: handlers, or plain catches.
        fallback: what handles the errors that no handler of `catch` does.
        problems: what is wrong with it so far.
    """
    written, found = dict(fields), list(problems)
    after = written.pop("after", None)
    branches = [Branch(exit=name, nodes=tuple(nodes), where=where) for name, nodes in (exits or {}).items()]
    handlers = list(catch)
    if fallback is not None:
        handlers.append(Handler(fields={"exit": FALLBACK}, nodes=tuple(fallback)))
    if handlers:
        written["catch"] = _caught(handlers, branches, where)
    return StepNode(
        fields=long_forms(written, found),
        after=[after] if isinstance(after, str) else after,
        body=None if body is None else tuple(body),
        branches=tuple(branches),
        problems=tuple(found),
        where=where,
    )


def long_forms(fields: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Fields with their short forms written out; what is no duration is added to the problems."""
    long = dict(fields)
    for name in _POLICIES:
        retry = long.get(name)
        if isinstance(retry, int) and not isinstance(retry, bool):
            long[name] = {"max_attempts": retry}
        elif isinstance(retry, Mapping):
            long[name] = long_forms(retry, problems)
    compensation = long.get("compensation")
    if isinstance(compensation, str):
        long["compensation"] = {"activity": compensation}
    elif isinstance(compensation, Mapping):
        long["compensation"] = long_forms(compensation, problems)
    for name in _DURATIONS:
        if name in long:
            long[name] = in_seconds(name, long[name], problems)
    return long


def in_seconds(name: str, value: Any, problems: list[str]) -> Any:
    """A written duration in seconds; numbers are left as they are, and what cannot be read is a problem and None."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        try:
            return seconds(value)
        except ValueError as error:
            problems.append(f'"{name}": {error}')
            return None
    return value


def listed(value: Any) -> Any:
    """A list of one for a lone text; anything else as it is."""
    return [value] if isinstance(value, str) else value


def _caught(handlers: Sequence[Any], branches: list[Branch], where: Where) -> list[Any]:
    """The catches of handlers, whose nodes become branches."""
    # In a list without any nodes all exits mean what the definition says; else each handler has one of its own.
    is_written_out = not any(isinstance(handler, Handler) and handler.nodes is not None for handler in handlers)
    caught: list[Any] = []
    for number, handler in enumerate(handlers, 1):
        if not isinstance(handler, Handler):
            caught.append(handler.model_dump() if isinstance(handler, Catch) else handler)
            continue
        fields = dict(handler.fields)
        if "errors" in fields:
            fields["errors"] = listed(fields["errors"])
        if not is_written_out:
            fields.setdefault("exit", ERROR if number == 1 else f"{ERROR}_{number}")
        if handler.nodes is not None and isinstance(fields["exit"], str):
            branches.append(Branch(exit=fields["exit"], nodes=handler.nodes, where=where))
        caught.append(fields)
    return caught
