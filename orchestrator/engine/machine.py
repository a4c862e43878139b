"""Events for machines: found to be allowed, accepted, and matched with the machine that waits."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.compiler.graph import MACHINE, Graph
from orchestrator.engine.admission import admit
from orchestrator.engine.advance import advance_many
from orchestrator.engine.core import Core
from orchestrator.engine.finish import scope_of
from orchestrator.engine.signal import match
from orchestrator.errors import ExecutionNotFound, ExpressionError, InvalidInput, SignalRefused
from orchestrator.expressions import Condition
from orchestrator.kinds.machine import Allowed, Event, MachineKind
from orchestrator.ledger import executions, machines, signals
from orchestrator.ledger.machines import Standing
from orchestrator.model.state import FINAL_EXECUTIONS

#: How often a machine that moves under the sender's eyes is looked at again, and the pause between, in seconds.
LOOKS, PAUSE = 100, 0.02


def send(
    core: Core, connection: Connection, execution_id: str, event: Event, *, signal_id: str, dedup_id: str | None
) -> bool:
    """Accept an event for a machine; False when its dedup id was known.

    Raises:
        SignalRefused: it is not allowed now: by the state, the actor, the condition or the schema; recorded.
        ExecutionNotFound: there is no such execution.
    """
    for _ in range(LOOKS):
        about, seen = executions.about(connection, execution_id), None
        if about is not None:
            seen = machines.standing(connection, execution_id, event.name, dedup_id, signal_id)
        if about is None or seen is None:
            raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        graph = core.graphs.get(connection, about.definition_id)
        if seen.accepted:
            return _wake(core, connection, graph, execution_id)
        if seen.known:
            return False
        if not seen.begun and seen.status not in FINAL_EXECUTIONS:
            # It enters its first state as soon as a worker has taken it up.
            clock.pause(PAUSE)
            continue
        allowed, admitted = _allowed(core, connection, graph, execution_id, seen=seen, event=event)
        if allowed.transition is None:
            signals.refused(connection, execution_id, event.name, event.actor, allowed.reason)
            raise SignalRefused(execution_id, allowed.reason, allowed.events)
        accepted = {
            "id": signal_id,
            "name": event.name,
            "payload": json.dumps(admitted.payload),
            "dedup": dedup_id,
            "actor": event.actor,
            "roles": json.dumps(list(event.roles)),
            "leads_to": _kind(graph).machine.transitions[allowed.transition].to,
        }
        if machines.accept(connection, execution_id, seen, accepted):
            return _wake(core, connection, graph, execution_id)
    raise SignalRefused(execution_id, f"{event.name} was not accepted: the machine does not come to rest; try again")


def _wake(core: Core, connection: Connection, graph: Graph, execution_id: str) -> bool:
    """Have an accepted event taken by the machine, if it waits."""
    woken = match(connection, graph, execution_id, MACHINE)
    advance_many(core, connection, [(execution_id, path) for path in woken])
    return True


def allowed_events(core: Core, connection: Connection, execution_id: str) -> tuple[str | None, tuple[str, ...]]:
    """A machine's state, and the events that some actor may send it now."""
    about, seen = executions.about(connection, execution_id), machines.standing(connection, execution_id)
    if about is None or seen is None:
        raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
    expected = seen.expected
    if expected is None or seen.status in FINAL_EXECUTIONS:
        return seen.state, ()
    leaving = _kind(core.graphs.get(connection, about.definition_id)).leaving(expected)
    return seen.state, tuple(dict.fromkeys(found.event for _, found in leaving if found.event is not None))


def _kind(graph: Graph) -> MachineKind:
    kind = graph.kind(MACHINE) if graph.definition.machine is not None else None
    if not isinstance(kind, MachineKind):
        raise InvalidInput(f"{graph.name} is no machine and takes no events; send it a signal")
    return kind


def _allowed(
    core: Core, connection: Connection, graph: Graph, execution_id: str, *, seen: Standing, event: Event
) -> tuple[Allowed, Event]:
    """What the event does, and the event as it may be kept: its secrets are sealed before anything looks at it."""
    kind, expected = _kind(graph), seen.expected
    if seen.status in FINAL_EXECUTIONS or expected is None:
        reason = f"it has ended {seen.status} in state {seen.state}; nothing is allowed now"
        return Allowed(transition=None, reason=reason), event
    about = executions.about(connection, execution_id)
    if about is None:
        return Allowed(transition=None, reason="it is gone"), event
    schema, what = graph.definition.signals.get(event.name), f"event {event.name} of {graph.name}"
    try:
        limit = core.settings.max_payload
        admitted = admit(core.seals, about.tenant, event.payload, schema, limit=limit, what=what)
    except InvalidInput as error:
        return Allowed(transition=None, reason=str(error)), event
    event = replace(event, payload=admitted.data)
    scope = scope_of(connection, graph, execution_id, about)

    def holds(condition: Condition) -> bool:
        return condition.holds(scope.value(condition.template, own={"event": event.as_data()}))

    try:
        return kind.choose(expected, event, holds), event
    except ExpressionError as error:
        return Allowed(transition=None, reason=f"the condition of {event.name} cannot be computed: {error}"), event
