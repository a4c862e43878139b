"""Undoing a step that was an execution of its own: the child goes back by itself, and nobody waits in a worker."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from orchestrator.engine.advance import advance
from orchestrator.engine.children import child_id, wake_for_child
from orchestrator.engine.core import Core
from orchestrator.engine.saga import StillAtWork, undo_succeeded
from orchestrator.ledger import children, parks, undos
from orchestrator.ledger.claims import Claim
from orchestrator.model.outcome import Failure
from orchestrator.model.state import ExecutionStatus, StepStatus
from orchestrator.runtime.guard import Ended
from orchestrator.runtime.link import Link

_LET_GO = frozenset({StepStatus.WAITING, StepStatus.READY})
_SUCCEEDED = frozenset({StepStatus.SUCCEEDED})
#: Seconds after which a child is looked at again that cannot go back yet.
_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class Waits:
    """The compensation waits for the child."""


def perform(core: Core, link: Link, held: Claim, undone: str) -> Ended | Waits:
    """Send the child back, or, once it is, settle the compensation."""
    child = link.call(children.latest, held.execution_id, undone) or child_id(held.execution_id, undone)
    status = (held.woken.resume or {}).get("status") if held.woken else None
    if status is None:
        try:
            undoes = link.call(lambda connection: undo_succeeded(core, connection, child))
        except StillAtWork:
            # In seconds, as a rule: it has been told to end.
            link.settle(held, lambda connection: parks.park(connection, held, resume=None, seconds=_AGAIN), _LET_GO)
            return Waits()
        if undoes:
            return _wait(core, link, held, child)
    elif status not in {ExecutionStatus.COMPENSATED, ExecutionStatus.SUCCEEDED}:
        return Failure(category="system", name="ChildNotUndone", message=f"execution {child} ended {status}")
    return link.settle(
        held,
        lambda connection: undos.settle_undo(connection, held, outcome=StepStatus.SUCCEEDED, output="null", error=None),
        _SUCCEEDED,
    )


def _wait(core: Core, link: Link, held: Claim, child: str) -> Waits:
    link.settle(
        held,
        lambda connection: parks.park(
            connection,
            held,
            resume={"child": child},
            awaits="child",
            wait_name=child,
        ),
        _LET_GO,
    )

    def go_on(connection: Connection) -> None:
        advance(core, connection, child)
        if wake_for_child(connection, child):
            advance(core, connection, held.execution_id, [held.path])

    link.call(go_on)
    return Waits()
