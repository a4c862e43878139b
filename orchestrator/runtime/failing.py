"""How a worker settles a failed attempt, whatever becomes of its connection meanwhile."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.engine.advance import advance, publish_ready
from orchestrator.engine.core import Core
from orchestrator.engine.failure import FAILED, FAILED_WITH_BODY, follow_failure, settle_failure
from orchestrator.engine.part import after_undo, woken_at_once
from orchestrator.engine.spread import Spread
from orchestrator.ledger import lost_replies
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.identity import undone_path
from orchestrator.model.outcome import Failure
from orchestrator.model.state import StepStatus
from orchestrator.runtime.link import Link


def fail(
    core: Core,
    link: Link,
    graph: Graph,
    held: Claim,
    failure: Failure,
    *,
    spread: Spread,
    definition_id: str,
    final: bool = False,
) -> bool:
    """Settle a failure, and go on with whatever follows unless it is another attempt; False when the claim was lost."""
    with_body = undone_path(held.path) is None and graph.has_body(held.path)
    ended = link.settle(
        held,
        lambda connection: settle_failure(connection, graph, held, failure, spread=spread, final=final),
        FAILED_WITH_BODY if with_body else FAILED,
    )
    if ended is None:
        return False
    settled = ended if isinstance(ended, Settled) else None
    if settled is not None and settled.status == StepStatus.RETRYING:
        return True
    became = settled.status if settled is not None else link.call(lost_replies.standing, held)
    if became == StepStatus.WAITING:
        # What its body did is undone first.
        ready = None if settled is None else settled.ready or woken_at_once(spread, held.path)
        link.call(lambda connection: advance(core, connection, held.execution_id, ready))
        return True
    if settled is None and became == StepStatus.CANCELLED:
        settled = Settled(halted=True)
    if settled is None and became != StepStatus.FAILED:
        # It was a retry whose reply was lost, or the step has been taken up again since.
        return True
    if undone_path(held.path) is not None:
        link.call(lambda connection: after_undo(core, connection, held, spread=spread, settled=settled))
        return True

    def follow(connection: Connection) -> list[str] | None:
        return follow_failure(core, connection, graph, held, failure, spread=spread, settled=settled)

    ready = link.call(follow)
    if ready is None:
        link.call(lambda connection: advance(core, connection, held.execution_id, ()))
    elif ready:
        publish_ready(core, graph, definition_id, held.execution_id, ready)
    return True
