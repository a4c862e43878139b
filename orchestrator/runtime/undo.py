"""One compensation: a guarded task of its own, never fused with another."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import CHILD
from orchestrator.engine.advance import child_ended
from orchestrator.engine.part import after_undo
from orchestrator.engine.scope import Scope, about
from orchestrator.engine.spread import Spread
from orchestrator.ledger import claims, undos
from orchestrator.ledger.claims import Claim, Facts, Settled
from orchestrator.model.identity import undone_path
from orchestrator.model.outcome import Failure
from orchestrator.model.state import StepStatus
from orchestrator.runtime import guard, undo_child
from orchestrator.runtime.failing import fail
from orchestrator.runtime.guard import Ended
from orchestrator.runtime.link import Link
from orchestrator.runtime.message import Message, attempt
from orchestrator.runtime.worker import Worker


def undo(worker: Worker, link: Link, graph: Graph, message: Message) -> bool:
    """Undo one step; whether the chain that the message came in goes on.

    The next compensation becomes ready in the statement that settles this one. Its message is the chain's to send; if
    this was the last of its canvas, or of a part, or the message was doubled, `after_undo` looks after the rest.
    """
    path, core = message.head, worker.core
    undone = undone_path(path) or path
    taken = link.claim(
        message.execution_id,
        path,
        owner=worker.node.owner(),
        transactional=worker.is_transactional(graph, path),
        timeout=worker.due(graph, path, worker.timeout(graph, path)),
    )
    if taken is None:
        return False
    held, facts = taken
    scope = Scope(link.call, graph, about(message.execution_id, facts))
    ended: Ended | undo_child.Waits
    if graph.step(undone).kind == CHILD and undo_child.waits_for_losers(link, held, undone):
        ended = undo_child.Waits()
    elif graph.step(undone).kind == CHILD and graph.step(undone).compensation is None:
        ended = undo_child.perform(core, link, held, undone)
    else:
        ended = _perform(worker, link, graph, held, scope=scope, facts=facts, undone=undone)
    if isinstance(ended, undo_child.Waits):
        return False
    if isinstance(ended, Failure):
        spread = Spread(link.call, graph, message.execution_id, scope)
        if not fail(core, link, graph, held, ended, spread=spread, definition_id=message.definition_id):
            link.call(claims.record_fenced, held)
        elif facts.parent_id is not None:
            link.call(lambda connection: child_ended(core, connection, message.execution_id))
        return False
    if ended is None:
        link.call(claims.record_fenced, held)
        return False
    if isinstance(ended, Settled) and ended.finished and facts.parent_id is not None:
        link.call(lambda connection: child_ended(core, connection, message.execution_id))
    settled = ended if isinstance(ended, Settled) else None
    if settled is not None and settled.ready and message.chained:
        return True
    spread = Spread(link.call, graph, message.execution_id, scope)
    link.call(lambda connection: after_undo(core, connection, held, spread=spread, settled=settled))
    return False


def _perform(
    worker: Worker,
    link: Link,
    graph: Graph,
    held: Claim,
    *,
    scope: Scope,
    facts: Facts,
    undone: str,
) -> Ended:
    timeout = worker.timeout(graph, held.path)
    made = attempt(
        worker,
        graph,
        held,
        facts,
        lambda: scope.undo_parameters(held.path, undone),
        timeout=timeout,
        undoes=undone,
    )

    def settle(connection: Connection, output: str) -> Settled | None:
        return undos.settle_undo(connection, held, outcome=StepStatus.SUCCEEDED, output=output, error=None)

    return guard.perform(made, worker.registry, link, settle)
