"""Starting and finishing executions.

A start is one statement: execution, root steps and first events, or nothing. Concurrent starts under one key meet at
the unique index: the second waits for the first's commit, inserts nothing, and then reads, in a second statement, what
the first made (in the same statement its snapshot would be too old).

A child is started only by who holds the step that stands for it. Its row is locked until the child is committed: a
drain comes after that, and whoever cancels the parent's children in a later statement sees this one; or it came first,
and the row that was waited for is halted, fenced or ended, and there is no child.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim
from orchestrator.ledger.tables import OPEN


@dataclass(frozen=True, kw_only=True, slots=True)
class NewExecution:
    """What an execution is started with."""

    id: str
    #: JSON text, and the SHA-256 of its canonical form.
    input: str
    input_hash: str
    #: Hashes that an earlier start with the same input may have left, if secrets in it were sealed with another key.
    other_hashes: tuple[str, ...] = ()
    idempotency_key: str | None = None
    correlation_id: str | None = None
    labels: dict[str, str] | None = None
    actor: str | None = None
    start_at: datetime | None = None
    #: Seconds that it may take; None is unlimited.
    timeout: float | None = None
    #: The claim of the step that is to wait for this one; its execution's deadline is this one's too.
    parent: Claim | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Existing:
    """An execution that holds an idempotency key."""

    id: str
    key: str
    input_hash: str


#: In maintenance an execution is accepted and held (ledger/maintenance.py); a child belongs to what runs already.
#: Rows are inserted in the order of their keys: two bulk starts with the same keys then wait instead of deadlocking.
START = text("""
WITH m AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM orchestrator.maintenance WHERE tenant = :tenant) AS held
), r AS (
    SELECT * FROM jsonb_to_recordset(CAST(:executions AS jsonb)) AS r(
        id uuid, input jsonb, input_hash text, idempotency_key text, correlation_id text, labels jsonb, actor text,
        start_at timestamptz, timeout float8, parent_id uuid, parent_path text, attempt int, owner text)
), p AS MATERIALIZED (
    -- LIMIT has each parent's step looked up by its key.
    SELECT r.id FROM r, LATERAL (
        SELECT FROM orchestrator.step s
        WHERE s.execution_id = r.parent_id AND s.path = r.parent_path AND s.status = 'running'
          AND s.attempt = r.attempt AND s.owner = r.owner AND NOT s.halt
        LIMIT 1 FOR SHARE
    ) s WHERE r.parent_id IS NOT NULL
), x AS (
    INSERT INTO orchestrator.execution (id, tenant, definition_id, definition_name, definition_version, status, input,
        input_hash, idempotency_key, correlation_id, labels, actor, start_at, allowance, deadline,
        parent_id, parent_path)
    SELECT r.id, :tenant, :definition, :name, :version,
           CASE WHEN r.start_at > clock_timestamp() OR m.held AND r.parent_id IS NULL THEN 'created'
                ELSE 'running' END,
           -- jsonb_to_recordset makes a JSON null an SQL one.
           coalesce(r.input, 'null'::jsonb), r.input_hash, r.idempotency_key,
           r.correlation_id, coalesce(r.labels, '{}'::jsonb), r.actor, r.start_at, r.timeout,
           least(greatest(r.start_at, clock_timestamp()) + r.timeout * interval '1 second',
                 (SELECT p.deadline FROM orchestrator.execution p WHERE p.id = r.parent_id)),
           r.parent_id, r.parent_path
    FROM r, m WHERE r.parent_id IS NULL OR r.id IN (SELECT id FROM p)
    ORDER BY r.idempotency_key COLLATE "C", r.id
    ON CONFLICT DO NOTHING RETURNING id, tenant, status, start_at, actor
), s AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, ready_xid, ready_at, due_at)
    SELECT x.id, q.path, x.tenant, CASE x.status WHEN 'created' THEN 'waiting' ELSE 'ready' END, q.queue,
           CASE x.status WHEN 'created' THEN NULL ELSE pg_current_xact_id() END, clock_timestamp(),
           CASE x.status WHEN 'created' THEN x.start_at END
    FROM x, jsonb_to_recordset(CAST(:roots AS jsonb)) AS q(path text, queue text)
    RETURNING execution_id, path, tenant, status
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT id, tenant, 'execution_' || status, NULL, jsonb_strip_nulls(jsonb_build_object('actor', actor)) FROM x
    UNION ALL SELECT execution_id, tenant, 'step_' || status, path, NULL FROM s
)
SELECT id, status FROM x
""")

#: A start whose reply was lost is sent again under the same ids, and finds its own rows.
STARTED = text("SELECT id, status FROM orchestrator.execution WHERE id = ANY(CAST(:ids AS uuid[]))")

HOLDERS = text("""
SELECT id, idempotency_key, input_hash FROM orchestrator.execution
WHERE tenant = :tenant AND definition_name = :name AND idempotency_key = ANY(:keys)
""")

#: For last steps that did not see each other; and for recovery.
FINISH = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET status = 'succeeded', output = CAST(:result AS jsonb),
           settled_at = clock_timestamp()
    WHERE id = :execution AND status = 'running' AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND {OPEN})
    RETURNING id, tenant, output
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_succeeded', jsonb_build_object('output', output) FROM x
)
SELECT id FROM x
""")

UNFINISHED = text(f"""
SELECT FROM orchestrator.step WHERE execution_id = :execution AND {OPEN} LIMIT 1
""")

#: An output that does not fit its schema fails the execution after its last step.
FLAG_FAILING = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET status = 'failing', error = CAST(:error AS jsonb)
    WHERE id = :execution AND status = 'running' AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND {OPEN})
    RETURNING id, tenant, error
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_failing', jsonb_build_object('error', error) FROM x
)
SELECT id FROM x
""")

ABOUT = text("""
SELECT definition_id, tenant, status, input, correlation_id, labels, parent_id, rollback, state, retries, error,
       CAST(xmin AS text)
FROM orchestrator.execution WHERE id = :execution
""")


def start(
    connection: Connection,
    executions: Sequence[NewExecution],
    *,
    tenant: str,
    definition_id: str,
    name: str,
    version: int,
    roots: str,
) -> dict[str, str]:
    """Insert the executions whose idempotency keys are free, with their root steps (a JSON array).

    Returns:
        id -> status (running, or created for a later start) of those inserted, now or by an earlier sending whose reply
        was lost, or a child's by an earlier attempt; of the others, the keys are held already, or the parents' steps
        not held any more.
    """
    rows = connection.execute(
        START,
        {
            "executions": _records(executions),
            "tenant": tenant,
            "definition": definition_id,
            "name": name,
            "version": version,
            "roots": roots,
        },
    )
    inserted = {str(row.id): row.status for row in rows}
    missing = [new.id for new in executions if new.id not in inserted]
    if missing:
        inserted |= {str(row.id): row.status for row in connection.execute(STARTED, {"ids": missing})}
    return inserted


def _records(executions: Sequence[NewExecution]) -> str:
    """A JSON array of the new rows; inputs are JSON already and are pasted, not parsed again."""
    records = []
    for new in executions:
        rest: dict[str, Any] = {
            "id": new.id,
            "input_hash": new.input_hash,
            "idempotency_key": new.idempotency_key,
            "correlation_id": new.correlation_id,
            "labels": new.labels,
            "actor": new.actor,
            "start_at": new.start_at.isoformat() if new.start_at else None,
            "timeout": new.timeout,
        }
        if new.parent is not None:
            token = new.parent.token()
            rest |= {"parent_id": token["execution"], "parent_path": token["path"]}
            rest |= {"attempt": token["attempt"], "owner": token["owner"]}
        records.append(f'{json.dumps(rest)[:-1]}, "input": {new.input}}}')
    return f"[{','.join(records)}]"


def holders(connection: Connection, *, tenant: str, name: str, keys: Sequence[str]) -> dict[str, Existing]:
    """idempotency key -> the execution that holds it."""
    rows = connection.execute(HOLDERS, {"tenant": tenant, "name": name, "keys": list(keys)})
    return {row[1]: Existing(id=str(row[0]), key=row[1], input_hash=row[2]) for row in rows}


def finish(connection: Connection, execution_id: str, result: str) -> bool:
    """End a running execution that has no open step; False when it has, or has ended already."""
    return connection.execute(FINISH, {"execution": execution_id, "result": result}).first() is not None


def unfinished(connection: Connection, execution_id: str) -> bool:
    """Whether an execution has an open step."""
    return connection.execute(UNFINISHED, {"execution": execution_id}).first() is not None


def flag_failing(connection: Connection, execution_id: str, error: str) -> bool:
    """Flag a running execution without open steps as failing for an error outside any; False when it is not that."""
    return connection.execute(FLAG_FAILING, {"execution": execution_id, "error": error}).first() is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """An execution's own row, as far as the engine needs it."""

    definition_id: str
    tenant: str
    status: str
    input: Any
    correlation_id: str | None
    labels: dict[str, str]
    #: The execution whose step waits for this one's end.
    parent_id: str | None
    #: Whether a failure undoes what was done.
    rollback: bool
    #: Of a machine: where it stands.
    state: str | None
    #: How often it was retried by itself.
    retries: int
    error: dict[str, Any] | None
    #: Of this writing of the row; each change of it has another.
    stamp: str


def about(connection: Connection, execution_id: str) -> About | None:
    """The execution's row; None when there is none."""
    row = connection.execute(ABOUT, {"execution": execution_id}).first()
    if row is None:
        return None
    return About(
        definition_id=str(row[0]),
        tenant=row[1],
        status=row[2],
        input=row[3],
        correlation_id=row[4],
        labels=row[5],
        parent_id=None if row[6] is None else str(row[6]),
        rollback=row[7],
        state=row[8],
        retries=row[9],
        error=row[10],
        stamp=row[11],
    )
