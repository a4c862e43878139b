"""Worker nodes as operators see them: which there are, which are to take up no more, and whether there is work left.

Draining is a flag on the node's row. Its next heartbeat reads it, and from then on the node consumes nothing: what runs
is finished, and what it had taken from the broker by then is carried out, so the flag races with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

#: A node is told of as dead for so long, in seconds.
REMEMBERED = 3_600

NODES = text("""
SELECT w.name, w.pid, w.queues, w.started_at, w.draining_at, w.boot_id,
       CAST(extract(epoch FROM clock_timestamp() - w.seen) AS float8) AS silent,
       w.buried_at IS NOT NULL
       OR w.seen < clock_timestamp() - CAST(:dead_after AS float8) * interval '1 second' AS dead,
       (SELECT count(*) FROM orchestrator.step s
        WHERE s.status = 'running' AND starts_with(s.owner, w.boot_id || '.')) AS claims
FROM orchestrator.worker w
WHERE w.tenant = :tenant AND w.stopped_at IS NULL
  AND w.seen > clock_timestamp() - CAST(:remembered AS float8) * interval '1 second'
ORDER BY w.name, w.started_at
""")

DRAIN = text("""
WITH w AS (
    UPDATE orchestrator.worker SET draining_at = CASE WHEN :on THEN clock_timestamp() END
    WHERE boot_id = :boot AND stopped_at IS NULL AND (draining_at IS NULL) = :on RETURNING tenant, name
), a AS (
    INSERT INTO orchestrator.audit (tenant, actor, command, reason, parameters)
    SELECT tenant, CAST(:actor AS text), CASE WHEN :on THEN 'drain' ELSE 'undrain' END, CAST(:reason AS text),
           jsonb_build_object('node', name) FROM w
)
SELECT name FROM w
""")

#: By the indexes of what is ready, owned and due; each search stops at the first.
WORK_LEFT = text("""
SELECT EXISTS (SELECT FROM orchestrator.step WHERE status = 'ready' AND NOT halt AND queue = ANY(:queues))
    OR EXISTS (SELECT FROM orchestrator.step WHERE status = 'running' AND queue = ANY(:queues))
    OR EXISTS (SELECT FROM orchestrator.step WHERE due_at < clock_timestamp() + CAST(:ahead AS float8) * interval '1 s'
               AND status IN ('waiting', 'retrying') AND queue = ANY(:queues))
""")

FIRED = text("""
SELECT schedule, CAST(extract(epoch FROM clock_timestamp() - max(fire_at)) AS float8) FROM orchestrator.schedule_fire
WHERE schedule = ANY(:schedules) AND fire_at > clock_timestamp() - interval '1 hour' GROUP BY schedule
""")

WRITES = text("SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerNode:
    """One boot of a worker."""

    #: As Celery has it: name@host.
    name: str
    pid: int
    queues: tuple[str, ...]
    started_at: datetime
    draining_at: datetime | None
    boot_id: str
    #: Seconds since it was last heard.
    silent: float
    dead: bool
    #: Steps that run on it.
    claims: int

    @property
    def state(self) -> str:
        """living, draining or dead."""
        return "dead" if self.dead else "living" if self.draining_at is None else "draining"


def nodes(connection: Connection, tenant: str, dead_after: float) -> list[WorkerNode]:
    """Those that have not ended in good order, the lately dead included."""
    parameters = {"tenant": tenant, "dead_after": dead_after, "remembered": REMEMBERED}
    return [
        WorkerNode(**{**row._mapping, "queues": tuple(row.queues)}) for row in connection.execute(NODES, parameters)
    ]


def drain(connection: Connection, boot_id: str, *, on: bool, actor: str, reason: str | None) -> bool:
    """Have a node take up no more, or go on; False when it was told so already, or has ended."""
    parameters = {"boot": boot_id, "on": on, "actor": actor, "reason": reason}
    return connection.execute(DRAIN, parameters).first() is not None


def work_left(connection: Connection, queues: Sequence[str], ahead: float) -> bool:
    """Whether anything in these queues is ready, runs, or is due within `ahead` seconds."""
    return bool(connection.execute(WORK_LEFT, {"queues": list(queues), "ahead": ahead}).scalar_one())


def fired(connection: Connection, schedules: Sequence[str]) -> dict[str, float]:
    """Seconds since the last fire of each schedule; none for those not fired within an hour."""
    return {row[0]: row[1] for row in connection.execute(FIRED, {"schedules": list(schedules)})}


def takes_writes(connection: Connection) -> bool:
    """Whether the server is one that can be written to."""
    return bool(connection.execute(WRITES).scalar_one())
