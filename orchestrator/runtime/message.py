"""What a segment's message says, and what the activities of its steps may know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from orchestrator.activities.context import StepContext
from orchestrator.activities.isolation.policy import ScriptPolicy
from orchestrator.compiler.graph import Graph
from orchestrator.ledger.claims import Claim, Facts
from orchestrator.model.identity import step_key
from orchestrator.runtime.guard import Attempt
from orchestrator.runtime.opening import Opening
from orchestrator.runtime.services import Services
from orchestrator.runtime.worker import Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What a segment's Celery message says, and where in a canvas it stands."""

    execution_id: str
    definition_id: str
    head: str
    #: Celery publishes the next segment of a chain when this one returns.
    chained: bool = False
    #: The head of a chord's body: Celery calls the result backend, which looks after it, when this one returns.
    chord_body: str | None = None


def context(
    worker: Worker,
    graph: Graph,
    held: Claim,
    facts: Facts,
    timeout: float | None,
    *,
    opening: Opening,
    undoes: str | None = None,
) -> StepContext:
    """What the activity may know of this attempt."""
    settings = worker.core.settings
    return StepContext(
        tenant=facts.tenant,
        execution_id=held.execution_id,
        definition=graph.name,
        version=graph.version,
        path=held.path,
        attempt=held.attempt,
        idempotency_key=step_key(held.execution_id, held.path),
        correlation_id=facts.correlation_id,
        labels=facts.labels,
        undo=undoes is not None,
        connectors=worker.connectors,
        timeout=timeout,
        services=Services(
            worker,
            held,
            opening,
            worker.registry.known(graph.call(held.path).activity or ""),
            timeout=timeout,
            patience=worker.heartbeat_timeout(graph, held.path),
        ),
        scripts=ScriptPolicy(allow_unisolated=settings.script_allow_unisolated, folders=settings.script_folders),
    )


def attempt(
    worker: Worker,
    graph: Graph,
    held: Claim,
    facts: Facts,
    parameters: Callable[[], Mapping[str, Any]],
    *,
    timeout: float | None,
    undoes: str | None = None,
) -> Attempt:
    """Everything that an attempt at a step or compensation needs."""
    opening = Opening(worker.core.seals, facts.tenant)
    return Attempt(
        held=held,
        activity=graph.call(held.path).activity or "",
        parameters=parameters,
        context=context(worker, graph, held, facts, timeout, opening=opening, undoes=undoes),
        timeout=timeout,
        within=lambda interruptible: within(worker, graph, held, timeout, interruptible=interruptible),
        limit=worker.core.settings.max_payload,
        opening=opening,
    )


def within(
    worker: Worker, graph: Graph, held: Claim, timeout: float | None, *, interruptible: bool = True
) -> AbstractContextManager[None]:
    """The call of an activity or task: see `Attendance.within`."""
    patience = worker.heartbeat_timeout(graph, held.path)
    return worker.attendance.within(held, timeout=timeout, patience=patience, interruptible=interruptible)
