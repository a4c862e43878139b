"""One compensation: a guarded task of its own, never fused with another."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.compiler.graph import Graph
from orchestrator.engine.advance import advance
from orchestrator.ledger import claims
from orchestrator.ledger.claims import Settled
from orchestrator.model.identity import undone_path
from orchestrator.model.outcome import Failure
from orchestrator.model.state import ExecutionStatus
from orchestrator.runtime import guard
from orchestrator.runtime.failing import fail
from orchestrator.runtime.guard import Attempt
from orchestrator.runtime.link import Link
from orchestrator.runtime.scope import Scope
from orchestrator.runtime.segment import Message, context
from orchestrator.runtime.worker import Worker


def undo(worker: Worker, link: Link, graph: Graph, message: Message) -> bool:
    """Undo one step; whether the chain that the message came in goes on.

    The next compensation becomes ready in the statement that settles this one. Its message is the chain's to send; if
    this was the last of its canvas, or the message was doubled, `advance` looks after the rest.
    """
    path, core = message.head, worker.core
    undone = undone_path(path) or path
    compensation = graph.compensation(path)
    taken = link.claim(
        message.execution_id,
        path,
        owner=worker.node.owner(),
        want=ExecutionStatus.COMPENSATING,
        transactional=worker.registry.is_transactional(compensation.activity),
        timeout=graph.timeout(path),
    )
    if taken is None:
        return False
    held, facts = taken
    scope = Scope(link, graph, message.execution_id, facts)
    attempt = Attempt(
        held=held,
        activity=compensation.activity,
        parameters=lambda: scope.undo_parameters(path, undone),
        context=context(graph, held, facts, undoes=undone),
        timeout=graph.timeout(path),
        limit=core.settings.max_payload,
    )

    def settle(connection: Connection, output: str) -> Settled | None:
        return claims.settle_undo(connection, held, outcome="succeeded", output=output, error=None)

    ended = guard.perform(attempt, worker.registry, link, settle)
    if isinstance(ended, Failure):
        if not fail(core, link, graph, held, ended):
            link.call(claims.record_fenced, held)
        return False
    if ended is None:
        link.call(claims.record_fenced, held)
        return False
    if isinstance(ended, Settled) and (ended.finished or message.chained):
        return bool(ended.ready)
    link.call(lambda connection: advance(core, connection, message.execution_id))
    return False
