"""Starting executions: validated at the edge, inserted by one statement, then published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator import fault_points
from orchestrator.compiler.compile import compile_plan
from orchestrator.compiler.graph import Graph
from orchestrator.dispatch.bundle import bundled
from orchestrator.engine.admission import admit
from orchestrator.engine.core import Core
from orchestrator.errors import IdempotencyConflict, IdempotencyKeyHeld, InvalidInput, SchemaNotMigrated
from orchestrator.ledger import database, executions
from orchestrator.ledger.claims import Claim
from orchestrator.ledger.executions import NewExecution
from orchestrator.ledger.seals import NO_KEYS, Seals
from orchestrator.model.identity import new_id
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.state import ExecutionStatus

#: Executions that one statement inserts.
CHUNK = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a start may say beside its input."""

    #: The same key and the same input give the same execution, for ever.
    idempotency_key: str | None = None
    #: Without a key: take the SHA-256 of the input's canonical JSON as the key.
    key_from_input: bool = False
    correlation_id: str | None = None
    #: Seconds the execution may take; None takes the definition's.
    timeout: float | None = None
    labels: Mapping[str, str] | None = None
    #: Not before this time, which must carry its zone.
    start_at: datetime | None = None
    #: Who starts it, for the history.
    actor: str | None = None
    #: Its id, where the same start may be sent again; None makes one.
    id: str | None = None
    #: The claim of the step that is to wait for it.
    parent: Claim | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The published definition that executions are pinned to."""

    tenant: str
    definition_id: str
    graph: Graph


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """An execution, new or found under its idempotency key."""

    execution_id: str
    #: False when the key was known and this is the execution of the first start.
    created: bool
    #: Whether its root steps are to be published now.
    ready: bool = False


def prepare(target: Target, value: Any, options: Options, limit: int, seals: Seals = NO_KEYS) -> NewExecution:
    """Check an input, seal its secrets, and make it a row.

    Raises:
        InvalidInput: it does not fit the definition's input schema, or an option is unusable.
        PayloadError: it is not JSON, or larger than `limit` bytes.
        ConfigurationError: it has secrets, and there is no key to seal them with.
    """
    schema = target.graph.definition.input_schema
    admitted = admit(seals, target.tenant, value, schema, limit=limit, what=f"input of {target.graph.name}")
    if options.start_at is not None and options.start_at.tzinfo is None:
        raise InvalidInput(f"start_at {options.start_at} has no time zone; use datetime.now(UTC) + ...")
    if options.idempotency_key == "":
        raise InvalidInput("the idempotency key is empty; leave it out or give a text")
    if options.timeout is not None and options.timeout <= 0:
        raise InvalidInput(f"timeout must be more than 0 seconds, not {options.timeout}")
    hashed, *others = seals.hashes(target.tenant, admitted.data)
    return NewExecution(
        id=options.id or str(new_id()),
        input=admitted.text,
        input_hash=hashed,
        other_hashes=tuple(others),
        idempotency_key=options.idempotency_key or (hashed if options.key_from_input else None),
        correlation_id=options.correlation_id,
        labels=dict(options.labels) if options.labels else None,
        actor=options.actor,
        start_at=options.start_at,
        timeout=options.timeout or target.graph.definition.deadline,
        parent=options.parent,
    )


def insert(connection: Connection, target: Target, news: Sequence[NewExecution]) -> list[Started]:
    """Insert executions on a connection whose transaction is the caller's affair; in the order given.

    A child whose step is not held any more, or halted, is not started, and is not among those returned.

    Raises:
        IdempotencyConflict: a key is held by an execution with another input.
        IdempotencyKeyHeld: a key is held by a transaction that did not end within the lock timeout.
    """
    try:
        inserted: dict[str, str] = {}
        # Sorted over all chunks, so that two bulk starts with the same keys wait instead of deadlocking.
        ordered = sorted(news, key=lambda new: new.idempotency_key or "")
        for begin in range(0, len(ordered), CHUNK):
            inserted |= _insert(connection, target, ordered[begin : begin + CHUNK])
        keys = [new.idempotency_key for new in news if new.id not in inserted and new.idempotency_key]
        held = {}
        if keys:
            held = executions.holders(connection, tenant=target.tenant, name=target.graph.name, keys=keys)
    except DBAPIError as error:
        raise _explained(error) from error
    started = []
    for new in news:
        if new.id in inserted:
            ready = inserted[new.id] == ExecutionStatus.RUNNING
            started.append(Started(execution_id=new.id, created=True, ready=ready))
            continue
        if new.parent is not None:
            continue
        holder = held[new.idempotency_key or ""]
        if holder.input_hash not in (new.input_hash, *new.other_hashes):
            raise IdempotencyConflict(target.graph.name, holder.key, holder.id)
        started.append(Started(execution_id=holder.id, created=False))
    return started


def _insert(connection: Connection, target: Target, news: Sequence[NewExecution]) -> dict[str, str]:
    return executions.start(
        connection,
        news,
        tenant=target.tenant,
        definition_id=target.definition_id,
        name=target.graph.name,
        version=target.graph.version,
        roots=json.dumps(target.graph.root_rows()),
    )


def _explained(error: DBAPIError) -> Exception:
    state = database.sqlstate(error)
    if state == "55P03":
        return IdempotencyKeyHeld()
    if state in database.NOT_MIGRATED:
        return SchemaNotMigrated()
    return error


def publisher(core: Core, target: Target, started: Sequence[Started]) -> Callable[[], object]:
    """What to call once the start is committed: publishes the root steps of the new executions."""
    plan = compile_plan(target.graph, Snapshot(status=ExecutionStatus.RUNNING, ready=target.graph.roots))
    plans = bundled([new.execution_id for new in started if new.ready], target.definition_id, plan)

    def publish() -> None:
        if started:
            fault_points.reach(fault_points.STARTED, started[0].execution_id)
        core.publisher.publish(plans)

    return publish
