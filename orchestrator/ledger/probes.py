"""Ready steps whose message was lost, told from a backlog.

A ready step in a long queue is not lost, and publishing it again would only lengthen the queue. So one probe per queue
is sent behind everything that was ready at its horizon, the snapshot of the tick before. What was ready at the horizon
and still is when a worker consumes the probe may be lost, or may have been published behind it: many that were started
at once are published for seconds after their commit, and what a worker gives back of a bundle goes to the end of the
queue, all of which RabbitMQ keeps in the order in which it came. So the probe is sent behind everything once more,
under another id, as the first message may come twice. What it has overtaken a second time, and what is ready a second
after that still, was lost.
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

_AT_HORIZON = """
s.queue = p.queue AND s.status = 'ready' AND NOT s.halt AND pg_visible_in_snapshot(s.ready_xid, p.horizon)
"""

#: Once more behind everything, if anything of what was ready still is.
REPEAT = text(f"""
WITH p AS MATERIALIZED (
    SELECT id, EXISTS (SELECT FROM orchestrator.step s WHERE {_AT_HORIZON}) AS is_left FROM orchestrator.probe p
    WHERE passes = 0 AND consumed_at IS NOT NULL FOR UPDATE SKIP LOCKED
), done AS (
    DELETE FROM orchestrator.probe USING p WHERE probe.id = p.id AND NOT is_left
)
UPDATE orchestrator.probe SET id = DEFAULT, passes = 1, consumed_at = NULL, sent_at = NULL, sends = 0
FROM p WHERE probe.id = p.id AND is_left
""")

#: The new ready_xid, in the same guarded statement, keeps a second sweep from publishing the row again.
OVERTAKEN = text(f"""
WITH p AS MATERIALIZED (
    SELECT id, queue, horizon FROM orchestrator.probe
    WHERE passes > 0 AND consumed_at < clock_timestamp() - interval '1 second' FOR UPDATE SKIP LOCKED
), found AS MATERIALIZED (
    SELECT s.execution_id, s.path FROM p JOIN orchestrator.step s ON {_AT_HORIZON}
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


def repeat(connection: Connection) -> None:
    """Have probes that were consumed once sent once more; those that left nothing behind are forgotten."""
    connection.execute(REPEAT)


def overtaken(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Steps overtaken by a probe twice; execution ids and paths, to be published again."""
    return [(str(row[0]), row[1]) for row in connection.execute(OVERTAKEN, {"limit": limit})]
