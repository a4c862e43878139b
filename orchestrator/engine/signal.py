"""Signals and events: accepted at the edge, then matched with the steps that wait for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from orchestrator.authoring.schema import validate
from orchestrator.compiler.graph import Graph
from orchestrator.engine.admission import admit
from orchestrator.engine.advance import advance_many
from orchestrator.engine.apart import Apart
from orchestrator.engine.core import Core
from orchestrator.errors import InvalidInput
from orchestrator.ledger import executions, signals


def match(connection: Connection, graph: Graph, execution_id: str, path: str | None = None) -> list[str]:
    """Hand signals that are there to the steps that wait for them; the paths woken.

    Sent by whoever has parked a step or inserted a signal, after the commit.
    """
    woken = []
    while (found := signals.peek(connection, execution_id, path)) is not None:
        problem = _problem(graph, found.name, found.payload)
        if problem is not None:
            signals.refuse(connection, execution_id, found, problem)
        elif signals.take(connection, execution_id, found):
            woken.append(found.path)
    return woken


def send(
    core: Core,
    connection: Connection,
    execution_id: str,
    *,
    signal_id: str,
    name: str,
    payload: Any,
    dedup_id: str | None,
    actor: str | None,
) -> bool | None:
    """Accept a signal to an execution and wake who waits for it.

    Args:
        signal_id: made once for all sendings, so that one whose reply was lost is not doubled.
        payload: what was given, not JSON yet.

    Returns:
        False when its dedup id was known, None when no such execution goes on.

    Raises:
        InvalidInput: the payload does not fit the definition's schema; noted in the execution's history.
        ConfigurationError: it has secrets, and there is no key to seal them with.
    """
    about = executions.about(connection, execution_id)
    if about is None:
        return None
    graph = core.graphs.get(connection, about.definition_id)
    try:
        sealed = admitted(core, graph, about.tenant, name, payload)
    except InvalidInput as error:
        signals.refused(connection, execution_id, name, actor, str(error))
        raise
    accepted = signals.insert(
        connection,
        signal_id=signal_id,
        execution_id=execution_id,
        name=name,
        payload=sealed,
        dedup_id=dedup_id,
        actor=actor,
    )
    # Also for a doubled one: its first sender may have died before it matched.
    if accepted is not None:
        advance_many(core, connection, [(execution_id, path) for path in match(connection, graph, execution_id)])
    return accepted


def admitted(core: Core, graph: Graph, tenant: str, name: str, payload: Any) -> str:
    """A payload as JSON text, its secrets sealed; as `admit` raises."""
    schema = graph.definition.signals.get(name)
    what = f"signal {name} of {graph.name}"
    return admit(core.seals, tenant, payload, schema, limit=core.settings.max_payload, what=what).text


def emit(
    core: Core,
    connection: Connection,
    *,
    signal_id: str,
    tenant: str,
    name: str,
    correlation: str,
    payload: str,
    dedup_id: str | None,
    actor: str | None = None,
) -> bool:
    """Accept an event and wake everybody who waits for it; False when its dedup id was known.

    Args:
        payload: JSON text.
    """
    accepted = signals.emit(
        connection,
        signal_id=signal_id,
        tenant=tenant,
        name=name,
        correlation=correlation,
        payload=payload,
        dedup_id=dedup_id,
        actor=actor,
    )
    woken = []
    for execution_id, path in signals.waiting_for_event(connection, tenant, name, correlation):
        about = executions.about(connection, execution_id)
        if about is not None:
            waiting = core.graphs.get(connection, about.definition_id)
            woken += [(execution_id, found) for found in match(connection, waiting, execution_id, path)]
    advance_many(core, connection, woken)
    return accepted


def match_left(core: Core, connection: Connection, limit: int) -> int:
    """Match what senders that died have left unmatched; how many steps that were."""
    found, woken = signals.unmatched(connection, limit), []
    with Apart() as apart:
        for execution_id, path in found:
            with apart.one(execution_id):
                about = executions.about(connection, execution_id)
                if about is not None:
                    graph = core.graphs.get(connection, about.definition_id)
                    woken += [(execution_id, taken) for taken in match(connection, graph, execution_id, path)]
        advance_many(core, connection, woken)
    return len(found)


def _problem(graph: Graph, name: str, value: object) -> str | None:
    """What is wrong with a payload by the definition's schema."""
    schema = graph.definition.signals.get(name)
    if schema is None:
        return None
    try:
        validate(value, schema, f"signal {name} of {graph.name}")
    except InvalidInput as error:
        return str(error)
    return None
