"""Incidents: what somebody should look at is entered, grouped by fingerprint, and closed again once it is over."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from orchestrator.engine.incidents import of_failure, of_queue
from orchestrator.ledger import database, incidents, troubles
from orchestrator.ledger.incidents import Incident, Subject
from orchestrator.recovery.sweep import LIMIT, Context, Sweep

logger = logging.getLogger("orchestrator.incidents")

#: Executions entered for a queue: the oldest ones stand for all that wait there.
OF_A_QUEUE = 100


def sweep(context: Context) -> int:
    """Open or count up what has gone wrong, and close what is over."""
    core, connection = context.core, context.connection
    failed = troubles.failed(connection, LIMIT)
    unknown = troubles.unknown(connection, LIMIT)
    groups: dict[str, tuple[Incident, list[Subject]]] = {}
    for row in (*failed, *unknown):
        graph = core.graphs.get(connection, str(row["definition_id"]))
        _add(groups, of_failure(row, graph), row, row["settled_at"])
    age, silence = core.settings.queue_unconsumed_after, core.settings.dead_after
    for row in troubles.unconsumed(connection, age=age, silence=silence, each=OF_A_QUEUE):
        _add(groups, of_queue(row["tenant"], row["queue"]), row, row["ready_at"])
    for incident, subjects in groups.values():
        _enter(core.database, incident, subjects)
    for resolved in incidents.resolve(connection, silence=silence):
        logger.info("incident resolved", extra={"incident": resolved.id, "kind": resolved.kind, "what": resolved.title})
    # Queues are asked about once a call: what waits there is the same in each pass.
    return max(len(failed), len(unknown))


def _add(
    groups: dict[str, tuple[Incident, list[Subject]]], incident: Incident, row: Mapping[str, Any], at: datetime
) -> None:
    key = f"{incident.tenant} {incident.kind} {incident.fingerprint}"
    subject = Subject(execution_id=str(row["id"]), path=row["path"], at=at)
    groups.setdefault(key, (incident, []))[1].append(subject)


def _enter(engine: Engine, incident: Incident, subjects: list[Subject]) -> None:
    with database.transaction(engine) as connection:
        counted = incidents.count(connection, incident, subjects)
        if not counted:
            # Another sweep was faster: nothing of this one's stays, an incident opened for it least of all.
            connection.rollback()
            return
    logger.warning("incident", extra={"kind": incident.kind, "what": incident.title, "executions": counted})


SWEEP = Sweep(name="incidents", interval=lambda settings: settings.sweep_incidents, sweep=sweep)
