"""Executions as steps of others: how they are started. Their end is `advance`'s affair."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection

from orchestrator.engine import start as starting
from orchestrator.engine.core import Core
from orchestrator.engine.start import Options, Target
from orchestrator.errors import UnknownDefinition
from orchestrator.kinds.kind import Start
from orchestrator.ledger import children, controls, definitions
from orchestrator.ledger.claims import Claim


def child_id(execution_id: str, path: str, again: int = 0) -> str:
    """The id of a step's child: the same for every attempt, so that it is started once.

    Args:
        again: how often an operator had the step begin anew, with another child.
    """
    return str(uuid.uuid5(uuid.UUID(execution_id), f"{path}#{again}" if again else path))


def begun_again(held: Claim) -> int:
    """How often a step with a child has begun anew."""
    resume = held.woken.resume if held.woken is not None else None
    return int(resume.get("again", 0)) if isinstance(resume, dict) else 0


def start_child(core: Core, connection: Connection, tenant: str, held: Claim, start: Start) -> str:
    """Start a step's execution, unless an earlier attempt has; its id.

    None is started for a step that is halted, or is another's by now. Whoever lets go of the step is told so.

    Raises:
        UnknownDefinition: nothing is published under the name.
        InvalidInput, PayloadError: the input does not fit.
    """
    found = definitions.find(connection, tenant, start.workflow, start.version)
    if found is None:
        raise UnknownDefinition(f"no workflow {start.workflow} is published; add its module to ORCHESTRATOR_MODULES")
    target = Target(tenant=tenant, definition_id=found.id, graph=core.graphs.get(connection, found.id))
    options = Options(
        id=child_id(held.execution_id, held.path, begun_again(held)),
        timeout=start.timeout,
        labels=start.labels,
        correlation_id=held.execution_id,
        parent=None if start.detached else held,
    )
    new = starting.prepare(target, start.input, options, core.settings.max_payload, core.seals)
    started = starting.insert(connection, target, [new])
    controls.pause_with_parent(connection, new.id)
    starting.publisher(core, target, started)()
    return new.id


def wake_for_child(connection: Connection, child: str) -> bool:
    """Wake the step that has just been parked for a child, if that has ended already."""
    told = children.wake(connection, child)
    return told is not None and told.woken is not None
