"""Undoing a step that was an execution of its own: the child goes back by itself, and nobody waits in a worker."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from orchestrator.engine.advance import advance
from orchestrator.engine.children import child_id, wake_for_child
from orchestrator.engine.core import Core
from orchestrator.engine.saga import Undoing, undo_succeeded
from orchestrator.ledger import children, parks, stragglers, undos
from orchestrator.ledger.claims import Claim
from orchestrator.model.outcome import Failure
from orchestrator.model.state import ExecutionStatus, StepStatus
from orchestrator.runtime.guard import Ended
from orchestrator.runtime.link import Link

_LET_GO = frozenset({StepStatus.WAITING, StepStatus.READY})
_SUCCEEDED = frozenset({StepStatus.SUCCEEDED})
#: Seconds after which it looks again for whoever is at work for the child.
_AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class Waits:
    """The compensation waits for the child."""


def perform(core: Core, link: Link, held: Claim, undone: str) -> Ended | Waits:
    """Send the child back, or, once it is, settle the compensation."""
    child = _child(link, held, undone)
    status = (held.woken.resume or {}).get("status") if held.woken else None
    if status in {None, ExecutionStatus.SUCCEEDED}:
        undoing = link.call(lambda connection: undo_succeeded(core, connection, child))
        if undoing is Undoing.LATER:
            return _look_again(link, held)
        if undoing is Undoing.BEGUN:
            return _wait(core, link, held, child)
    elif status != ExecutionStatus.COMPENSATED:
        return Failure(category="system", name="ChildNotUndone", message=f"execution {child} ended {status}")
    return link.settle(
        held,
        lambda connection: undos.settle_undo(connection, held, outcome=StepStatus.SUCCEEDED, output="null", error=None),
        _SUCCEEDED,
    )


def waits_for_losers(link: Link, held: Claim, undone: str) -> bool:
    """Whether somebody is at work still for a child that has ended, or for a child of that, on a step that has lost its
    race, an execution of its own maybe; then the compensation lets go, and looks again: in seconds, as a rule, as they
    have been told to end."""
    if not link.call(stragglers.of, _child(link, held, undone)):
        return False
    _look_again(link, held)
    return True


def _look_again(link: Link, held: Claim) -> Waits:
    link.settle(held, lambda connection: parks.park(connection, held, resume=None, seconds=_AGAIN), _LET_GO)
    return Waits()


def _child(link: Link, held: Claim, undone: str) -> str:
    return link.call(children.latest, held.execution_id, undone) or child_id(held.execution_id, undone)


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
