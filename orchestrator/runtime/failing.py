"""How a worker settles a failed attempt, whatever becomes of its connection meanwhile."""

from __future__ import annotations

from orchestrator.compiler.graph import Graph
from orchestrator.engine.advance import advance
from orchestrator.engine.core import Core
from orchestrator.engine.failure import FAILED, settle_failure
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.outcome import Failure
from orchestrator.model.state import StepStatus
from orchestrator.runtime.link import Link


def fail(core: Core, link: Link, graph: Graph, held: Claim, failure: Failure) -> bool:
    """Settle a failure, and take the execution up unless another attempt follows; False when the claim was lost.

    Two steps: a lost connection in the second must not make the first, sent again, look like a lost claim.
    """
    ended = link.settle(held, lambda connection: settle_failure(connection, graph, held, failure), FAILED)
    if ended is None:
        return False
    if not (isinstance(ended, Settled) and ended.status == StepStatus.RETRYING):
        link.call(lambda connection: advance(core, connection, held.execution_id))
    return True
