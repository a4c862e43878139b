"""Ready steps whose message was lost, told from a backlog.

A ready step in a long queue is not lost, and publishing it again would only lengthen the queue. So one probe per queue
is sent behind everything that was ready at its horizon. When a worker consumes the probe, what was ready before and
still is a second later was lost. The horizon is the snapshot of the tick before the probe is sent, so that messages
whose publishing follows their commit are ahead of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

#: A queue with ready steps of some age gets one probe; the unique index keeps it at one.
PREPARE = text("""
INSERT INTO orchestrator.probe (tenant, queue)
SELECT DISTINCT :tenant, queue FROM orchestrator.step
WHERE status = 'ready' AND NOT halt
  AND ready_at < (SELECT clock_timestamp()) - CAST(:age AS float8) * interval '1 second'
ON CONFLICT DO NOTHING
""")

#: Not in the tick that made it; again, ever later, if its message was lost too.
SEND = text("""
WITH found AS MATERIALIZED (
    SELECT id FROM orchestrator.probe
    WHERE consumed_at IS NULL AND created_at < clock_timestamp() - interval '0.5 s'
      AND (sent_at IS NULL OR sent_at < clock_timestamp() - least(power(2, sends), 60) * interval '5 seconds')
    FOR UPDATE SKIP LOCKED
)
UPDATE orchestrator.probe p SET sent_at = clock_timestamp(), sends = p.sends + 1 FROM found WHERE p.id = found.id
RETURNING p.id, p.queue
""")

CONSUME = text("""
UPDATE orchestrator.probe SET consumed_at = clock_timestamp() WHERE id = :id AND consumed_at IS NULL
""")

#: The new ready_xid, in the same guarded statement, keeps a second sweep from publishing the row again.
OVERTAKEN = text("""
WITH p AS MATERIALIZED (
    SELECT id, queue, horizon FROM orchestrator.probe
    WHERE consumed_at < clock_timestamp() - interval '1 second' FOR UPDATE SKIP LOCKED
), found AS MATERIALIZED (
    SELECT s.execution_id, s.path FROM p JOIN orchestrator.step s
      ON s.queue = p.queue AND s.status = 'ready' AND NOT s.halt AND pg_visible_in_snapshot(s.ready_xid, p.horizon)
     -- What an operator holds still has had its message, and is published when it is resumed.
     AND NOT EXISTS (SELECT FROM orchestrator.execution x
                     WHERE x.id = s.execution_id AND x.status IN ('pausing', 'paused'))
    ORDER BY s.ready_at LIMIT :limit FOR UPDATE OF s SKIP LOCKED
), r AS (
    UPDATE orchestrator.step s SET ready_xid = pg_current_xact_id(), ready_at = clock_timestamp()
    FROM found WHERE s.execution_id = found.execution_id AND s.path = found.path AND s.status = 'ready'
    RETURNING s.execution_id, s.path
), done AS (
    DELETE FROM orchestrator.probe USING p WHERE probe.id = p.id AND (SELECT count(*) FROM found) < :limit
)
SELECT execution_id, path FROM r
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A probe to be sent."""

    id: int
    queue: str


def prepare(connection: Connection, tenant: str, age: float) -> None:
    """Make a probe for each queue with steps that have been ready for `age` seconds."""
    connection.execute(PREPARE, {"tenant": tenant, "age": age})


def to_send(connection: Connection) -> list[Probe]:
    """Probes to be published now."""
    return [Probe(id=row[0], queue=row[1]) for row in connection.execute(SEND)]


def consume(connection: Connection, probe_id: int) -> None:
    """Note that a worker has met the probe; a doubled or late one changes nothing."""
    connection.execute(CONSUME, {"id": probe_id})


def overtaken(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Steps overtaken by a consumed probe; execution ids and paths, to be published again."""
    return [(str(row[0]), row[1]) for row in connection.execute(OVERTAKEN, {"limit": limit})]
