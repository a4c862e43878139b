"""Which effects a failed execution undoes, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.compiler.graph import Graph
from orchestrator.model.snapshot import Attempted
from orchestrator.model.state import StepStatus

#: The kind of steps that are executions of their own.
CHILD = "workflow"


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
