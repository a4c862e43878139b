"""Ending attempts that have passed their time and that their workers could not end."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.activities.registry import registry
from orchestrator.engine.core import Core
from orchestrator.engine.mend import fail_attempt
from orchestrator.ledger import executions
from orchestrator.ledger.timers import Overdue
from orchestrator.model.outcome import Failure

#: A worker interrupts its own attempts at their timeout; those that it could not are fenced so many seconds after.
GRACE = 2.0
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
