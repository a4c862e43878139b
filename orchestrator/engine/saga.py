"""Rolling back: from the flag on an execution to its compensations, or to its end.

Everyone who settles or releases a step of a flagged execution advances it; so does the stalled sweep. Whoever finds
that neither an attempt nor a child runs any more, nor the loser of a race, tries to begin the undo; the guarded
statement lets one of them.
"""

from __future__ import annotations

from enum import Enum, auto

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import reverse
from orchestrator.engine.core import Core
from orchestrator.errors import ControlRefused
from orchestrator.ledger import children, executions, halts, stragglers
from orchestrator.ledger.controls import By
from orchestrator.ledger.executions import About
from orchestrator.ledger.reopens import Standing
from orchestrator.model.identity import undo_path
from orchestrator.model.state import ExecutionStatus, StepStatus


def retreat(connection: Connection, graph: Graph, execution_id: str, about: About) -> bool:
    """Begin the undo of a drained execution, or end it; one that ends failed may be retried later, by its definition.

    Args:
        about: the execution's own row; if it was written since, nothing happens, and who wrote it goes on, or a sweep.

    Returns:
        True to the one caller who began the undo, and who has it published.
    """
    undo = _undo(connection, graph, execution_id) if about.rollback else ()
    if not undo:
        halts.end(connection, execution_id, retry_after=_retry_after(graph, about), stamp=about.stamp)
        return False
    return halts.begin_undo(connection, execution_id, queued(graph, undo), stamp=about.stamp)


def _retry_after(graph: Graph, about: About) -> float | None:
    """Seconds after which a failed execution is taken up again by itself; None when it is not."""
    policy, error = graph.definition.execution_retry, about.error or {}
    failures = about.retries + 1
    if policy is None or not policy.retries(failures, str(error.get("category")), str(error.get("name"))):
        return None
    return policy.delay(failures)


class Undoing(Enum):
    """What becomes of an execution that has succeeded and is sent back."""

    #: It has nothing to undo, or has done so.
    NOTHING = auto()
    #: It goes back, now or since an earlier call.
    BEGUN = auto()
    #: Somebody is at work for it again.
    LATER = auto()


def undo_succeeded(core: Core, connection: Connection, execution_id: str) -> Undoing:
    """Send an execution that has succeeded back. The caller has asked that nobody is at work for it any more."""
    about = executions.about(connection, execution_id)
    if about is None or about.status in {ExecutionStatus.COMPENSATED, ExecutionStatus.CANCELLED}:
        return Undoing.NOTHING
    if about.status != ExecutionStatus.SUCCEEDED:
        return Undoing.BEGUN
    graph = core.graphs.get(connection, about.definition_id)
    undo = _undo(connection, graph, execution_id)
    if not undo:
        return Undoing.NOTHING
    if halts.begin_undo(connection, execution_id, queued(graph, undo), after=ExecutionStatus.SUCCEEDED):
        return Undoing.BEGUN
    found = executions.about(connection, execution_id)
    return Undoing.LATER if found is None or found.status == ExecutionStatus.SUCCEEDED else Undoing.BEGUN


def undo_ended(
    core: Core,
    connection: Connection,
    execution_id: str,
    standing: Standing,
    *,
    to: str | None = None,
    by: By,
) -> bool:
    """Take back what an execution did that has ended without that; False when there is nothing, or it went on.

    Args:
        to: only what was done after this step, which stays itself.

    Raises:
        ControlRefused: that step was never attempted, or somebody is at work on one still.
    """
    for path, owner in stragglers.of(connection, execution_id):
        raise ControlRefused(
            execution_id,
            f"{owner} is still at work on {path}, which has lost its race, and nothing is undone beside it; try again "
            "when that has ended",
        )
    graph = core.graphs.get(connection, standing.definition_id)
    undo = _undo(connection, graph, execution_id, to)
    after, seen = standing.status, standing.settled_at
    rows = queued(graph, undo)
    return bool(undo) and halts.begin_undo(connection, execution_id, rows, after=after, seen=seen, by=by)


def queued(graph: Graph, undo: tuple[str, ...]) -> list[tuple[str, str]]:
    """The steps to undo, each with the queue of its compensation."""
    return [(path, graph.queue(undo_path(path))) for path in undo]


def undo_order(connection: Connection, execution_id: str) -> tuple[str, ...]:
    """The steps that were attempted, in the order in which whatever must be is undone."""
    return tuple(found.path for found in reversed(halts.attempted(connection, execution_id)))


def _undo(connection: Connection, graph: Graph, execution_id: str, to: str | None = None) -> tuple[str, ...]:
    """The steps to undo, in order. Neither attempts nor children go on any more."""
    succeeded = children.succeeded(connection, execution_id)
    attempted = halts.attempted(connection, execution_id)
    if to is not None:
        at = next((number for number, found in enumerate(attempted) if found.path == to), None)
        if at is None:
            raise ControlRefused(execution_id, f"step {to} was never attempted; `orchestrator show` lists its steps")
        attempted = attempted[at + 1 :]
    # What a part of it has undone already stays undone; what that could not undo is tried once more.
    return reverse(graph, (found for found in attempted if found.undo is not StepStatus.SUCCEEDED), succeeded)
