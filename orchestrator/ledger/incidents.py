"""Incidents: opened, counted, resolved, and what is done to them by hand.

Two sweeps that see the same failures meet at the index of open incidents: `ENTER` inserts the row or locks the one that
is there, so the second goes on when the first has committed, and its `COUNT`, a statement of its own with a snapshot of
its own, finds the subjects there: their primary key counts each once. Both statements are one transaction; it is rolled
back when nothing was counted, so that an incident closed in the meantime is not opened anew for the same failures.

A subject's `at` is when it failed: the same execution failing again later is news, in this incident or another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.troubles import LIVING
from orchestrator.model.identity import new_id

#: Who closes what has resolved itself.
SYSTEM = "system"

_OPEN = "closed_at IS NULL"

ENTER = text(f"""
INSERT INTO orchestrator.incident AS i (id, tenant, kind, fingerprint, title, detail, count)
VALUES (:id, :tenant, :kind, :fingerprint, :title, CAST(:detail AS jsonb), 0)
ON CONFLICT (tenant, kind, fingerprint) WHERE {_OPEN} DO UPDATE SET last_at = clock_timestamp()
RETURNING i.id
""")

COUNT = text("""
WITH s AS (
    INSERT INTO orchestrator.incident_subject AS k (incident_id, execution_id, tenant, path, at)
    SELECT :incident, f.execution_id, :tenant, f.path, f.at
    FROM jsonb_to_recordset(CAST(:subjects AS jsonb)) AS f(execution_id uuid, path text, at timestamptz)
    WHERE NOT EXISTS (
        SELECT FROM orchestrator.incident_subject o JOIN orchestrator.incident i ON i.id = o.incident_id
        WHERE o.execution_id = f.execution_id AND o.path = f.path AND o.at >= f.at AND i.kind = :kind
          AND o.incident_id <> :incident
          -- A queue that was left again is news, whoever waits in it.
          AND NOT (i.kind = 'queue_without_consumer' AND i.closed_by IS NOT DISTINCT FROM 'system'))
    ON CONFLICT (incident_id, execution_id, path) DO UPDATE SET at = excluded.at WHERE k.at < excluded.at
    RETURNING execution_id
), n AS (SELECT count(*) AS count FROM s), u AS (
    UPDATE orchestrator.incident SET count = incident.count + n.count, last_at = clock_timestamp() FROM n
    WHERE id = :incident AND n.count > 0
)
SELECT count FROM n
""")

#: Of an incident that has no executions: what has happened once more.
RAISE = text(f"""
INSERT INTO orchestrator.incident AS i (id, tenant, kind, fingerprint, title, detail)
VALUES (:id, :tenant, :kind, :fingerprint, :title, CAST(:detail AS jsonb))
ON CONFLICT (tenant, kind, fingerprint) WHERE {_OPEN}
DO UPDATE SET count = i.count + 1, last_at = clock_timestamp(), detail = excluded.detail
""")


def _resolve(reason: str, condition: str) -> str:
    return f"""
        UPDATE orchestrator.incident i SET closed_at = clock_timestamp(), closed_by = '{SYSTEM}', reason = {reason}
        WHERE i.{_OPEN} AND {condition} RETURNING i.id, i.kind, i.title
    """


#: None of its executions is where it put them: they go on, have succeeded, or are gone.
LEFT = text(
    _resolve(
        "'its executions have all gone on'",
        """i.kind IN ('retries_exhausted', 'compensation_failed', 'unknown_on_workers') AND NOT EXISTS (
            SELECT FROM orchestrator.incident_subject k JOIN orchestrator.execution x ON x.id = k.execution_id
            LEFT JOIN orchestrator.step s ON s.execution_id = k.execution_id AND s.path = k.path
            WHERE k.incident_id = i.id AND (
                x.status IN ('failed', 'timed_out', 'compensation_failed')
                OR i.kind <> 'compensation_failed' AND x.status IN ('compensated', 'failing', 'compensating')
                -- A step that is tried again and again has gone on only once its error is another one, or none.
                OR i.kind = 'unknown_on_workers' AND s.settled_at IS NULL AND s.error ->> 'name' LIKE 'Unknown%'))""",
    )
)

#: None of its executions stands still any more.
RESUMED = text(
    _resolve(
        "'its executions have been resumed, or have ended'",
        """i.kind = 'restored' AND NOT EXISTS (
            SELECT FROM orchestrator.incident_subject k JOIN orchestrator.execution x ON x.id = k.execution_id
            WHERE k.incident_id = i.id AND x.status IN ('pausing', 'paused'))""",
    )
)

#: A step of the same activity has succeeded since, in one of the newest executions of the definition.
KNOWN_AGAIN = text(
    _resolve(
        "'a worker knows it again: the same step has succeeded since'",
        """i.kind = 'unknown_on_workers' AND EXISTS (
            SELECT FROM (SELECT x.id FROM orchestrator.execution x
                         WHERE x.tenant = i.tenant AND x.definition_name = i.detail ->> 'definition'
                         ORDER BY x.id DESC LIMIT 100) x
            JOIN orchestrator.step s ON s.execution_id = x.id AND s.path = i.detail ->> 'path'
            WHERE s.status = 'succeeded' AND s.settled_at > i.last_at)""",
    )
)

CONSUMED_AGAIN = text(
    _resolve(
        "CASE WHEN c.consumed THEN 'the queue is consumed again' ELSE 'nothing waits in the queue any more' END",
        "i.kind = 'queue_without_consumer' AND i.id = c.id AND (c.consumed OR NOT c.waited_for)",
    ).replace(
        "WHERE",
        f"""FROM (
            SELECT o.id, EXISTS ({LIVING} AND o.detail ->> 'queue' = ANY(w.queues)) AS consumed, EXISTS (
                SELECT FROM orchestrator.incident_subject k JOIN orchestrator.step s
                  ON s.execution_id = k.execution_id AND s.path = k.path
                WHERE k.incident_id = o.id AND s.status = 'ready' AND s.queue = o.detail ->> 'queue') AS waited_for
            FROM orchestrator.incident o WHERE o.kind = 'queue_without_consumer' AND o.{_OPEN}
        ) c WHERE""",
        1,
    )
)

AGREES = text(
    _resolve(
        "'a worker has started with the published content'",
        "i.kind = 'drift' AND i.tenant = :tenant AND i.fingerprint = ANY(:fingerprints)",
    )
)

LIST = text(f"""
SELECT id, tenant, kind, fingerprint, title, detail, count, assignee, opened_at, last_at, closed_at, closed_by, reason
FROM orchestrator.incident
WHERE tenant = :tenant AND (kind = :kind OR CAST(:kind AS text) IS NULL)
  AND CASE :status WHEN 'open' THEN {_OPEN} WHEN 'closed' THEN NOT {_OPEN} ELSE true END
ORDER BY last_at DESC, id LIMIT :limit
""")

FIND = text("SELECT * FROM orchestrator.incident WHERE id = :incident")

SUBJECTS = text("""
SELECT k.execution_id, k.path, k.at, x.definition_name, x.status
FROM orchestrator.incident_subject k LEFT JOIN orchestrator.execution x ON x.id = k.execution_id
WHERE k.incident_id = :incident ORDER BY k.at DESC LIMIT :limit
""")

_AUDIT = """
INSERT INTO orchestrator.audit (tenant, actor, command, reason, parameters)
SELECT tenant, :actor, '<command>', :reason, jsonb_strip_nulls(jsonb_build_object(
       'incident', id, 'assignee', CAST(:assignee AS text))) FROM i RETURNING id
"""


def _by_hand(command: str, change: str) -> str:
    return f"""
        WITH i AS (UPDATE orchestrator.incident SET {change} WHERE id = :incident AND {_OPEN} RETURNING id, tenant)
        {_AUDIT.replace("<command>", command)}
    """


ASSIGN = text(_by_hand("assign incident", "assignee = :assignee"))
CLOSE = text(_by_hand("close incident", "closed_at = clock_timestamp(), closed_by = :actor, reason = :reason"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An execution that an incident is about."""

    execution_id: str
    #: The step that failed; empty for the execution as a whole.
    path: str
    #: When it failed.
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """What is the matter, the same for all that has the same fingerprint."""

    tenant: str
    kind: str
    fingerprint: str
    title: str
    detail: dict[str, Any]

    def columns(self) -> dict[str, Any]:
        """The parameters of a new row."""
        return {
            "id": new_id(),
            "tenant": self.tenant,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "title": self.title,
            "detail": json.dumps(self.detail),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """An incident that was closed because what it was about is over."""

    id: str
    kind: str
    title: str


def count(connection: Connection, incident: Incident, subjects: Sequence[Subject]) -> int:
    """Enter subjects in the open incident with this fingerprint, or open one; how many are new to it.

    To be called in a transaction, which the caller rolls back if none is.
    """
    found = str(connection.execute(ENTER, incident.columns()).scalar_one())
    rows = [{"execution_id": s.execution_id, "path": s.path, "at": s.at.isoformat()} for s in subjects]
    parameters = {"incident": found, "tenant": incident.tenant, "kind": incident.kind, "subjects": json.dumps(rows)}
    return int(connection.execute(COUNT, parameters).scalar_one())


def raise_(connection: Connection, incident: Incident) -> None:
    """Open an incident that has no subjects, or count one up that is open."""
    connection.execute(RAISE, incident.columns())


def resolve(connection: Connection, *, silence: float) -> list[Resolved]:
    """Close what is over."""
    found = [*connection.execute(KNOWN_AGAIN), *connection.execute(LEFT), *connection.execute(RESUMED)]
    found += connection.execute(CONSUMED_AGAIN, {"silence": silence})
    return [Resolved(id=str(row[0]), kind=row[1], title=row[2]) for row in found]


def agrees(connection: Connection, tenant: str, fingerprints: Sequence[str]) -> None:
    """Close the drift incidents of these fingerprints."""
    connection.execute(AGREES, {"tenant": tenant, "fingerprints": list(fingerprints)})


def listed(connection: Connection, *, tenant: str, status: str, kind: str | None, limit: int) -> list[dict[str, Any]]:
    """Incidents, the latest first; `status` is open, closed or all."""
    return _rows(connection.execute(LIST, {"tenant": tenant, "status": status, "kind": kind, "limit": limit}))


def incident(connection: Connection, incident_id: str, limit: int = 50) -> dict[str, Any] | None:
    """An incident with its latest subjects; None when there is none."""
    row = connection.execute(FIND, {"incident": incident_id}).first()
    if row is None:
        return None
    subjects = connection.execute(SUBJECTS, {"incident": incident_id, "limit": limit})
    return dict(row._mapping) | {"subjects": _rows(subjects)}


def assign(connection: Connection, incident_id: str, assignee: str | None, actor: str) -> bool:
    """Give an open incident to somebody, or to nobody; False when it is not open."""
    parameters = {"incident": incident_id, "assignee": assignee, "actor": actor, "reason": None}
    return connection.execute(ASSIGN, parameters).first() is not None


def close(connection: Connection, incident_id: str, actor: str, reason: str) -> bool:
    """Close an open incident by hand; False when it is not open."""
    parameters = {"incident": incident_id, "assignee": None, "actor": actor, "reason": reason}
    return connection.execute(CLOSE, parameters).first() is not None


def _rows(result: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in result]
