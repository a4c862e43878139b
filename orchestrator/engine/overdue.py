"""Ending attempts that have passed their time and that their workers could not end."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.activities.registry import registry
from orchestrator.engine.core import Core
from orchestrator.engine.mend import fail_attempt
from orchestrator.ledger import claims, executions
from orchestrator.ledger.timers import Overdue, Unbegun
from orchestrator.model.outcome import Failure

#: A worker interrupts its own attempts at their timeout; those that it could not are fenced so many seconds after.
GRACE = 2.0
#: Seconds within which whoever claims a step in order to end it has done so: else its connection was lost, say, while
#: it lives on, and the claim is overdue as any other.
CLAIMED = 10.0
#: Two readings of one clock within a statement, in seconds.
_CLOSE = 0.05

_TIMED_OUT = Failure(
    category="timeout",
    name="AttemptTimedOut",
    message="the attempt passed its timeout and was fenced",
    classes=("AttemptTimedOut",),
)


def fail_overdue(core: Core, connection: Connection, overdue: Overdue) -> None:
    """Settle an overdue attempt with its own token, as timed out or as unheard, and go on from there."""
    about = executions.about(connection, overdue.held.execution_id)
    if about is None:
        return
    graph, path = core.graphs.get(connection, about.definition_id), overdue.held.path
    activity = graph.call(path).activity or ""
    timeout = graph.timeout(path) or registry.timeout(activity)
    patience = graph.heartbeat_timeout(path) or registry.heartbeat_timeout(activity)
    failure = _TIMED_OUT
    if patience is not None and (timeout is None or overdue.allowed < timeout - _CLOSE):
        message = f"the attempt let {patience:g} s pass without a heartbeat and was fenced"
        failure = Failure(category="timeout", name="HeartbeatTimedOut", message=message, classes=("HeartbeatTimedOut",))
    fail_attempt(core, connection, overdue.held, failure)


def fail_unbegun(core: Core, connection: Connection, found: Unbegun, *, owner: str) -> bool:
    """Fail a step for good that no worker has begun in time; False if it may wait longer, or somebody has begun it.

    Args:
        owner: who claims it in order to end it. A worker that claims it first goes on with it.
    """
    graph = core.graphs.get(connection, found.definition_id)
    patience = graph.start_timeout(found.path)
    if patience is None or found.waited < patience:
        return False
    taken = claims.claim(
        connection,
        found.execution_id,
        found.path,
        owner=owner,
        transactional=False,
        timeout=CLAIMED,
    )
    if taken is None:
        return False
    message = f"no worker of queue {graph.queue(found.path)} began it within {patience:g} s"
    failure = Failure(category="timeout", name="StartTimedOut", message=message, classes=("StartTimedOut",))
    fail_attempt(core, connection, taken[0], failure, final=True)
    return True
