"""Which effects a failed execution, or a failed part of one, undoes, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.compiler.graph import Graph
from orchestrator.model.definition import Step
from orchestrator.model.snapshot import Attempted
from orchestrator.model.state import StepStatus

#: The kind of steps that are executions of their own.
CHILD = "workflow"


def inner(path: str) -> str:
    """What the paths of the part begin with that the step at a path holds; not of a machine, which has many bodies."""
    return f"{path}["


def holds_undo(graph: Graph, path: str) -> bool:
    """Whether the step at a path holds others of which anything can be undone."""
    return graph.has_body(path) and any(map(_can_undo, graph.step(path).steps))


def _can_undo(step: Step) -> bool:
    return step.compensation is not None or step.kind == CHILD or any(map(_can_undo, step.steps))


def reverse(graph: Graph, attempted: Iterable[Attempted], children: Collection[str] = ()) -> tuple[str, ...]:
    """Steps to compensate, in order.

    Args:
        attempted: steps that were attempted, in order of completion; the result is the reverse.
        children: paths of the steps whose own executions have succeeded, whether the steps were told or not.
    """
    return tuple(found.path for found in reversed(list(attempted)) if _needs_undo(graph, found, children))


def _needs_undo(graph: Graph, found: Attempted, children: Collection[str]) -> bool:
    step = graph.step(found.path)
    if step.kind == CHILD and step.compensation is None:
        # The child goes back by itself; one that did not succeed has done so already.
        return found.path in children
    if step.compensation is None:
        return False
    if found.status is StepStatus.SUCCEEDED:
        return True
    # The outcome of an attempt that did not succeed is unknown, unless it could only commit with its success.
    return step.compensate_on == "attempted" or (step.compensate_on is None and not found.transactional)
