"""How a failed attempt is settled: another one later, an exit, a broken body, or the turn of its execution.

Workers call it for what went wrong under their hands, the deadline sweep for attempts that took too long; the claim's
token lets one of them. Two steps, the settle and what follows it: a connection lost in the second must not make the
first, sent again, look like a lost claim.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection

from orchestrator.compiler.failure import Bearing, bearing
from orchestrator.compiler.graph import Graph
from orchestrator.compiler.reverse import holds_undo, inner
from orchestrator.engine.advance import cancel_children
from orchestrator.engine.core import Core
from orchestrator.engine.part import to_undo
from orchestrator.engine.spread import Spread
from orchestrator.ledger import failures, halts, undos, walks
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.identity import undone_path
from orchestrator.model.outcome import Failure
from orchestrator.model.policy import ruled
from orchestrator.model.state import StepStatus

#: Errors of the definition or the code, which another attempt would only repeat, unless a table of errors knows better.
FINAL_ERRORS = frozenset({"ExpressionError", "InvalidInput", "PayloadError", "ConfigurationError"})

#: What a failure makes of a step or compensation.
FAILED = frozenset({StepStatus.RETRYING, StepStatus.FAILED})
#: And of a step with a body: until that is undone it waits, or is cancelled as its execution is flagged already.
FAILED_WITH_BODY = FAILED | {StepStatus.WAITING, StepStatus.CANCELLED}


def settle_failure(
    connection: Connection, graph: Graph, held: Claim, failure: Failure, *, spread: Spread, final: bool = False
) -> Settled | None:
    """Record a failed attempt by the step's retry policy.

    Unless another attempt follows (status retrying), or the step waits now until what its body did is undone (status
    waiting, with the first compensation ready), the caller goes on with `follow_failure`.

    Args:
        final: no other attempt follows, whatever the policy says.

    Returns:
        None when the claim was lost and nothing was written.
    """
    failure = _known(graph, failure)
    undone = undone_path(held.path)
    error = json.dumps(failure.as_data())
    delay = None if final else _delay(connection, graph, held, failure)
    if delay is not None:
        return failures.settle_retry(connection, held, error, delay=delay)
    if undone is not None:
        stop = graph.definition.on_compensation_failure == "stop"
        return undos.settle_undo(connection, held, outcome=StepStatus.FAILED, output=None, error=error, stop=stop)
    borne = _borne(connection, graph, held, failure)
    if borne.exit is not None and holds_undo(graph, held.path):
        undo = to_undo(connection, graph, held)
        if undo:
            return undos.begin_part(connection, held, error, undo, inner=inner(held.path))
    if borne.exit is not None:
        rows = spread.following(held.path, borne.exit).rows
        return failures.settle_caught(
            connection, held, error, outcome=StepStatus.FAILED, exit_by=borne.exit, successors=rows
        )
    if borne.container is not None:
        return failures.settle_breaking(connection, held, error, outcome=StepStatus.FAILED, container=borne.container)
    return failures.settle_failed(connection, held, error, outcome=StepStatus.FAILED, rollback=borne.rollback)


def _known(graph: Graph, failure: Failure) -> Failure:
    """A failure as the definition's table of errors has it: by the same rule for the settle and for what follows."""
    return ruled(graph.definition.errors, failure)


def _borne(connection: Connection, graph: Graph, held: Claim, failure: Failure) -> Bearing:
    """Who bears a failure for good; nobody bears that of a step of whose body something could not be undone."""
    if failure.interrupted:
        # Of an execution that is cancelled or late. It has no exit: a retry takes the step up again.
        return Bearing()
    borne = bearing(graph, held.path, failure.category, failure.name)
    if borne.exit is None or not holds_undo(graph, held.path):
        return borne
    return borne if undos.is_undone(connection, held.execution_id, inner(held.path)) else Bearing()


def _delay(connection: Connection, graph: Graph, held: Claim, failure: Failure) -> float | None:
    """Seconds until the next attempt; None when none follows."""
    if failure.name in FINAL_ERRORS and not failure.ruled:
        return None
    for_ever = undone_path(held.path) is None and graph.step(held.path).on_error == "retry"
    policy = graph.retry(held.path)
    if not policy.retries(held.failures + 1, failure.category, failure.name, for_ever=for_ever):
        return None
    # A service that says when it is there again is not asked before.
    delay = max(policy.delay(held.failures + 1), failure.retry_after or 0.0)
    if policy.budget is None or for_ever:
        return delay
    return delay if policy.has_time(failures.failing_for(connection, held), delay) else None


def follow_failure(
    core: Core,
    connection: Connection,
    graph: Graph,
    held: Claim,
    failure: Failure,
    *,
    spread: Spread,
    settled: Settled | None,
) -> list[str] | None:
    """What a step's failure for good brings about: paths made ready; None when the execution itself must be advanced.

    Args:
        settled: what the settle did; None when its reply was lost.
    """
    failure = _known(graph, failure)
    borne = _borne(connection, graph, held, failure)
    if settled is not None and settled.halted:
        # The execution is flagged, or a body around this step is broken off.
        woken = spread.wake_around(held.path)
        return woken or None
    if failure.interrupted:
        return None
    if borne.exit is not None:
        ready = list(settled.ready) if settled is not None else []
        if settled is None:
            ready = walks.unclaimed(connection, held.execution_id, graph.children(held.path))
        ready += spread.after(spread.following(held.path, borne.exit))
        return ready or None
    if borne.container is not None:
        prefix = _inner(graph, held.path, borne.container)
        halts.drain(connection, held.execution_id, prefix, container=borne.container)
        cancel_children(core, connection, held.execution_id, inner=prefix)
        return [borne.container] if spread.wake(borne.container, prefix) else []
    return None


def _inner(graph: Graph, path: str, container: str) -> str:
    """What the paths of the container's body begin with, seen from a step somewhere in it."""
    place = graph.place(path)
    while place.container is not None and place.container != container:
        place = graph.place(place.container)
    return place.inner
