"""Signals to executions, and events for whoever waits for them.

Signal against wait: an UPDATE whose WHERE fails on its snapshot does not wait, so a signal and a wait that do not see
each other would both go to sleep. Hence: the sender inserts and commits, the waiting step parks and commits, and then
EACH sends the matching statement.

Taking is a row of `signal_delivery`, whose primary key lets an execution take a signal once; an event may be taken by
many executions. Signals are taken in the order in which the database accepted them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.tables import FINAL, OPEN

#: That a signal `g` to the execution `x` has the sender's id; as the unique index has it, so that it is searched.
KNOWN = """
    g.tenant = x.tenant AND coalesce(g.execution_id::text, 'correlation ' || g.correlation) = x.id::text
    AND g.name = :name AND g.dedup_id = :dedup
"""

INSERT = text(f"""
WITH x AS (
    SELECT id, tenant FROM orchestrator.execution WHERE id = :execution AND status NOT IN ({FINAL}) FOR SHARE
), s AS (
    INSERT INTO orchestrator.signal (id, tenant, execution_id, name, dedup_id, payload, actor)
    SELECT :id, tenant, id, :name, :dedup, CAST(:payload AS jsonb), :actor FROM x
    ON CONFLICT DO NOTHING RETURNING id, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT :execution, tenant, 'signal_received', jsonb_strip_nulls(jsonb_build_object(
           'signal', id, 'name', CAST(:name AS text), 'actor', CAST(:actor AS text))) FROM s
)
-- One whose reply was lost is sent again under its id, and finds itself.
SELECT (SELECT id FROM x) AS execution, coalesce((SELECT id FROM s), (
    SELECT id FROM orchestrator.signal WHERE id = :id)) AS signal, EXISTS (
    SELECT FROM orchestrator.signal g JOIN orchestrator.execution x ON x.tenant = g.tenant
    WHERE x.id = :execution AND {KNOWN}) AS known
""")

EMIT = text("""
INSERT INTO orchestrator.signal (id, tenant, name, correlation, dedup_id, payload, actor)
VALUES (:id, :tenant, :name, :correlation, :dedup, CAST(:payload AS jsonb), :actor)
ON CONFLICT DO NOTHING RETURNING id
""")

WAITING_FOR_EVENT = text("""
SELECT execution_id, path FROM orchestrator.step
WHERE tenant = :tenant AND wait_name = :name AND correlation = :correlation AND status = 'waiting'
  AND awaits = 'signal' AND NOT halt
""")

#: The signals that a waiting step `w` has not taken.
UNTAKEN = """
    SELECT g.id, g.name, g.payload, g.created_at FROM orchestrator.signal g
    WHERE g.execution_id = w.execution_id AND NOT g.taken AND w.correlation IS NULL
      AND CASE w.awaits WHEN 'event' THEN g.moves ELSE NOT g.moves AND g.name = w.wait_name END
      AND NOT EXISTS (SELECT FROM orchestrator.signal_delivery d
                      WHERE d.execution_id = w.execution_id AND d.signal_id = g.id)
    UNION ALL
    SELECT g.id, g.name, g.payload, g.created_at FROM orchestrator.signal g
    WHERE g.execution_id IS NULL AND g.tenant = w.tenant AND g.name = w.wait_name AND g.correlation = w.correlation
      AND NOT EXISTS (SELECT FROM orchestrator.signal_delivery d
                      WHERE d.execution_id = w.execution_id AND d.signal_id = g.id)
"""

_PEEK = f"""
SELECT w.path, g.name, g.id, g.payload FROM orchestrator.step w, LATERAL (
    SELECT * FROM ({UNTAKEN}) u ORDER BY created_at, id LIMIT 1) g
WHERE w.execution_id = :execution AND w.status = 'waiting' AND w.awaits IN ('signal', 'event') AND NOT w.halt
  AND <which>
ORDER BY w.path LIMIT 1
"""
#: What a waiting step would take; any of an execution, or the one at a path.
PEEK = text(_PEEK.replace("<which>", f"w.{OPEN}"))
PEEK_AT = text(_PEEK.replace("<which>", "w.path = :path"))

#: Steps that have waited a while although a signal is there: its sender died before it could wake them.
UNMATCHED = text(f"""
SELECT w.execution_id, w.path FROM orchestrator.step w
WHERE w.status = 'waiting' AND w.awaits IN ('signal', 'event') AND NOT w.halt
  AND w.ready_at < (SELECT clock_timestamp()) - interval '2 s' AND EXISTS ({UNTAKEN})
LIMIT :limit
""")

#: Takes a signal for a step and wakes it; nothing if either has gone, or if the step now waits for something else.
TAKE = text(f"""
WITH w AS MATERIALIZED (
    SELECT w.execution_id, w.path, w.tenant FROM orchestrator.step w
    WHERE w.execution_id = :execution AND w.path = :path AND w.status = 'waiting' AND w.awaits IN ('signal', 'event')
      AND NOT w.halt AND EXISTS (SELECT FROM ({UNTAKEN}) u WHERE u.id = :signal)
    FOR UPDATE OF w
), c AS (
    INSERT INTO orchestrator.signal_delivery (signal_id, execution_id, tenant, path)
    SELECT :signal, execution_id, tenant, path FROM w ON CONFLICT DO NOTHING RETURNING execution_id, path
), t AS (
    UPDATE orchestrator.signal SET taken = true FROM c WHERE id = :signal AND signal.execution_id IS NOT NULL
), u AS (
    UPDATE orchestrator.step s SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp(),
           due_at = NULL, awaits = NULL, wait_name = NULL, correlation = NULL, woken_by = 'signal',
           resume = coalesce(s.resume, '{{}}') || jsonb_build_object(
               'signal', g.payload, 'name', g.name, 'actor', g.actor, 'roles', g.roles, 'leads_to', g.leads_to,
               'due_at', s.due_at)
    FROM c, orchestrator.signal g
    WHERE g.id = :signal AND s.execution_id = c.execution_id AND s.path = c.path AND s.status = 'waiting'
    RETURNING s.path, s.tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT :execution, tenant, 'step_ready', path, jsonb_build_object('signal', CAST(:signal AS uuid)) FROM u
)
SELECT path FROM u
""")

#: Lets a signal pass by: it does not fit what the definition says of its payload.
REFUSE = text("""
WITH c AS (
    INSERT INTO orchestrator.signal_delivery (signal_id, execution_id, tenant, path)
    SELECT :signal, id, tenant, :path FROM orchestrator.execution WHERE id = :execution
    ON CONFLICT DO NOTHING RETURNING tenant
), t AS (
    UPDATE orchestrator.signal SET taken = true FROM c WHERE id = :signal AND execution_id IS NOT NULL
)
INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
SELECT :execution, tenant, 'signal_refused', :path, jsonb_build_object(
       'signal', CAST(:signal AS text), 'name', CAST(:name AS text), 'reason', CAST(:reason AS text)) FROM c
""")

#: A signal that was never accepted.
REFUSED = text("""
INSERT INTO orchestrator.event (execution_id, tenant, type, data)
SELECT id, tenant, 'signal_refused', jsonb_strip_nulls(jsonb_build_object(
       'name', CAST(:name AS text), 'actor', CAST(:actor AS text), 'reason', CAST(:reason AS text)))
FROM orchestrator.execution WHERE id = :execution
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Untaken:
    """A signal, and the step that may take it."""

    path: str
    name: str
    signal_id: str
    payload: Any


def insert(
    connection: Connection,
    *,
    signal_id: str,
    execution_id: str,
    name: str,
    payload: str,
    dedup_id: str | None,
    actor: str | None,
) -> bool | None:
    """Accept a signal; False when its dedup id was known, None when there is no such execution that goes on."""
    row = connection.execute(
        INSERT,
        {
            "id": signal_id,
            "execution": execution_id,
            "name": name,
            "payload": payload,
            "dedup": dedup_id,
            "actor": actor,
        },
    ).one()
    if row[1] is not None:
        return True
    # Also one that was accepted before the execution ended.
    return False if row[0] is not None or row[2] else None


def emit(
    connection: Connection,
    *,
    signal_id: str,
    tenant: str,
    name: str,
    correlation: str,
    payload: str,
    dedup_id: str | None,
    actor: str | None,
) -> bool:
    """Accept an event; False when its dedup id was known."""
    row = connection.execute(
        EMIT,
        {
            "id": signal_id,
            "tenant": tenant,
            "name": name,
            "correlation": correlation,
            "payload": payload,
            "dedup": dedup_id,
            "actor": actor,
        },
    ).first()
    return row is not None


def waiting_for_event(connection: Connection, tenant: str, name: str, correlation: str) -> list[tuple[str, str]]:
    """Execution ids and paths of the steps that wait for an event."""
    rows = connection.execute(WAITING_FOR_EVENT, {"tenant": tenant, "name": name, "correlation": correlation})
    return [(str(row[0]), row[1]) for row in rows]


def peek(connection: Connection, execution_id: str, path: str | None) -> Untaken | None:
    """The next signal that a waiting step of an execution, or the one at a path, may take."""
    if path is None:
        row = connection.execute(PEEK, {"execution": execution_id}).first()
    else:
        row = connection.execute(PEEK_AT, {"execution": execution_id, "path": path}).first()
    return None if row is None else Untaken(path=row[0], name=row[1], signal_id=str(row[2]), payload=row[3])


def take(connection: Connection, execution_id: str, found: Untaken) -> bool:
    """Wake a step with a signal; False when either was gone."""
    parameters = {"execution": execution_id, "path": found.path, "signal": found.signal_id}
    return connection.execute(TAKE, parameters).first() is not None


def refuse(connection: Connection, execution_id: str, found: Untaken, reason: str) -> None:
    """Let a signal pass by an execution, and note why."""
    connection.execute(
        REFUSE,
        {
            "execution": execution_id,
            "path": found.path,
            "signal": found.signal_id,
            "name": found.name,
            "reason": reason,
        },
    )


def refused(connection: Connection, execution_id: str, name: str, actor: str | None, reason: str) -> None:
    """Note a signal that was not accepted."""
    connection.execute(REFUSED, {"execution": execution_id, "name": name, "actor": actor, "reason": reason})


def unmatched(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Execution ids and paths of steps that wait for what is there."""
    return [(str(row[0]), row[1]) for row in connection.execute(UNMATCHED, {"limit": limit})]
