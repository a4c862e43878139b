"""Purging: executions that ended long ago go, with everything about them.

Of one that has an idempotency key the row stays, empty but for what the key needs: the same start then still gives the
same execution, and the same unique index decides, so that a start can race with nothing. All others go wholly.

Who else may be here: other purges, whose rows are skipped; operators who take an execution up again, who wait for the
row's lock or are waited for. If they were first, the row no longer is what this looked for, and PostgreSQL asks the
conditions of a locked row anew; if the purge was, their statement finds no row that is not purged. Workers and sweeps
never look at what has ended.

An execution goes only when its parent has ended as long ago, or never was, and nothing that it started goes on: what is
taken back as a unit can be, as long as any of it is kept. One that is to be retried by itself stays, but for a child,
which is retried only while its parent runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

_MEANT = """
    x.settled_at < :before AND x.settled_at IS NOT NULL AND x.purged_at IS NULL
    AND (x.retry_at IS NULL OR x.parent_id IS NOT NULL)
    AND (x.tenant = :tenant OR CAST(:tenant AS text) IS NULL)
    AND (x.definition_name = :name OR CAST(:name AS text) IS NULL)
    AND (x.status = ANY(CAST(:statuses AS text[])) OR CAST(:statuses AS text[]) IS NULL)
    AND (x.parent_id IS NULL OR NOT EXISTS (
        SELECT FROM orchestrator.execution p
        WHERE p.id = x.parent_id AND (p.settled_at IS NULL OR p.settled_at >= :before)))
    AND NOT EXISTS (SELECT FROM orchestrator.execution c WHERE c.parent_id = x.id AND c.settled_at IS NULL)
"""

_TABLES = ("step", "event", "signal_delivery", "signal", "side_effect", "attempt_log", "incident_subject", "straggler")


def _gone(table: str) -> str:
    return f"gone_{table} AS (DELETE FROM orchestrator.{table} t USING x WHERE t.execution_id = x.id)"


PURGE = text(f"""
WITH x AS MATERIALIZED (
    SELECT x.id, x.idempotency_key FROM orchestrator.execution x WHERE {_MEANT}
    ORDER BY x.settled_at LIMIT :batch FOR UPDATE OF x SKIP LOCKED
), {", ".join(map(_gone, _TABLES))}, kept AS (
    UPDATE orchestrator.execution e SET purged_at = clock_timestamp(), input = CAST('null' AS jsonb), output = NULL,
           error = NULL, labels = CAST('{{}}' AS jsonb), correlation_id = NULL, actor = NULL
    FROM x WHERE e.id = x.id AND x.idempotency_key IS NOT NULL
), gone AS (
    DELETE FROM orchestrator.execution e USING x WHERE e.id = x.id AND x.idempotency_key IS NULL
)
SELECT count(*) FROM x
""")

COUNT = text(f"""
SELECT x.definition_name, x.status, count(*) FROM orchestrator.execution x WHERE {_MEANT} GROUP BY 1, 2 ORDER BY 1, 2
""")

#: What grows beside executions. The audit is kept: who did what is asked for long after.
REST = (
    text("DELETE FROM orchestrator.worker WHERE coalesce(stopped_at, buried_at) < :before"),
    text("DELETE FROM orchestrator.schedule_fire WHERE fire_at < :before"),
    text("""
    WITH i AS (DELETE FROM orchestrator.incident WHERE closed_at < :before RETURNING id)
    DELETE FROM orchestrator.incident_subject s USING i WHERE s.incident_id = i.id
    """),
)

AGO = text("SELECT clock_timestamp() - CAST(:seconds AS float8) * interval '1 second'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Purge:
    """Which executions go: those that ended before a time, and are all that is asked for."""

    before: datetime
    #: None: of every tenant.
    tenant: str | None = None
    #: Of this definition only.
    name: str | None = None
    #: In one of these only; none given: in any.
    statuses: Sequence[str] = field(default=())

    def parameters(self) -> dict[str, Any]:
        """Of the statements above."""
        statuses = list(self.statuses) or None
        return {"before": self.before, "tenant": self.tenant, "name": self.name, "statuses": statuses}


def purge(connection: Connection, which: Purge, batch: int) -> int:
    """One batch, in a transaction of its own; how many went. Less than a batch: nothing is left, or is in use."""
    return int(connection.execute(PURGE, {**which.parameters(), "batch": batch}).scalar_one())


def purge_rest(connection: Connection, before: datetime) -> None:
    """Nodes that are gone, fires and closed incidents from before a time."""
    for statement in REST:
        connection.execute(statement, {"before": before})


def counted(connection: Connection, which: Purge) -> list[tuple[str, str, int]]:
    """How many executions would go, by definition and status."""
    return [(row[0], row[1], row[2]) for row in connection.execute(COUNT, which.parameters())]


def ago(connection: Connection, seconds: float) -> datetime:
    """The time so many seconds ago, by the database's clock."""
    found: datetime = connection.execute(AGO, {"seconds": seconds}).scalar_one()
    return found
