"""Maintenance: a tenant starts nothing new, and finishes what runs.

A start is accepted and held: START reads the tenant's row here in its own statement. One that read it and commits after
the end of the maintenance would be held for ever; `RELEASE_HELD` asks again, from the sweep too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from orchestrator.ledger.controls import By

_AUDIT = """
    INSERT INTO orchestrator.audit (tenant, actor, command, reason)
    SELECT tenant, CAST(:actor AS text), '<command>', CAST(:reason AS text) FROM m
"""

BEGIN = text(f"""
WITH m AS (
    INSERT INTO orchestrator.maintenance (tenant, actor, reason) VALUES (:tenant, :actor, :reason)
    ON CONFLICT DO NOTHING RETURNING tenant
), a AS ({_AUDIT.replace("<command>", "maintenance on")})
SELECT tenant FROM m
""")

END = text(f"""
WITH m AS (
    DELETE FROM orchestrator.maintenance WHERE tenant = :tenant RETURNING tenant
), a AS ({_AUDIT.replace("<command>", "maintenance off")})
SELECT tenant FROM m
""")

#: What was held begins now; the timers sweep takes it up.
RELEASE_HELD = text("""
UPDATE orchestrator.step s SET due_at = clock_timestamp() FROM orchestrator.execution x
WHERE x.status = 'created' AND x.start_at IS NULL AND x.tenant = coalesce(CAST(:tenant AS text), x.tenant)
  AND s.execution_id = x.id AND s.status = 'waiting' AND s.due_at IS NULL
  AND NOT EXISTS (SELECT FROM orchestrator.maintenance m WHERE m.tenant = x.tenant)
""")

FACTS = text("""
SELECT m.actor, m.reason, m.since, (
    SELECT count(*) FROM orchestrator.execution x
    WHERE x.tenant = m.tenant AND x.status = 'created' AND x.start_at IS NULL)
FROM orchestrator.maintenance m WHERE m.tenant = :tenant
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """A tenant's maintenance."""

    actor: str
    reason: str | None
    since: datetime
    #: Executions that were accepted and begin when it ends.
    held: int


def begin(connection: Connection, tenant: str, by: By) -> bool:
    """Start nothing new from now on; False when it is so already."""
    parameters = {"tenant": tenant, "actor": by.actor, "reason": by.reason}
    return connection.execute(BEGIN, parameters).first() is not None


def end(connection: Connection, tenant: str, by: By) -> bool:
    """Start what was held, and whatever comes; False when there was no maintenance."""
    parameters = {"tenant": tenant, "actor": by.actor, "reason": by.reason}
    ended = connection.execute(END, parameters).first() is not None
    release_held(connection, tenant)
    return ended


def release_held(connection: Connection, tenant: str | None = None) -> int:
    """Let held executions begin whose tenants are in maintenance no more; how many first steps that were."""
    return connection.execute(RELEASE_HELD, {"tenant": tenant}).rowcount


def facts(connection: Connection, tenant: str) -> Maintenance | None:
    """The tenant's maintenance, if it is in one."""
    row = connection.execute(FACTS, {"tenant": tenant}).first()
    return None if row is None else Maintenance(actor=row[0], reason=row[1], since=row[2], held=row[3])
