"""What there is to say of one execution: why it is where it is. Only reads; nothing here is on a step's path.

Several statements, each with a snapshot of its own: an execution that moves meanwhile is explained as it was a moment
ago, which whoever asks cannot tell from having asked earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger import stragglers
from orchestrator.ledger.tables import FINAL, OPEN

#: Open steps that are read; of a loop's thousand lanes the first say all.
MOST = 200
#: So many steps ahead of a ready one are counted.
AHEAD = 1_000

STANDING = text("""
SELECT x.id, x.tenant, x.definition_id, x.definition_name, x.definition_version, x.status, x.state, x.error, x.start_at,
       x.deadline, x.retries, x.retry_at, x.created_at, x.settled_at, x.paused_at, clock_timestamp() AS now,
       p.actor AS paused_by, p.reason AS pause_reason, p.at AS pause_asked_at,
       m.since AS maintenance_since, m.actor AS maintenance_by, m.reason AS maintenance_reason
FROM orchestrator.execution x
LEFT JOIN orchestrator.maintenance m ON m.tenant = x.tenant
LEFT JOIN LATERAL (
    SELECT a.actor, a.reason, a.at FROM orchestrator.audit a
    WHERE a.execution_id = x.id AND a.command = 'pause' ORDER BY a.id DESC LIMIT 1
) p ON true
WHERE x.id = :execution
""")

#: `pending`: of a blocked step, parents that have not settled. `ahead`: of a ready one, what is before it in its queue.
#: `inner`: what the paths of a body begin with. `done`: of a loop, iterations of which nothing is open; `[` is followed
#: by a backslash in the C collation.
STEPS = text(f"""
SELECT s.path, s.status, s.undoes, s.queue, s.attempt, s.failures, s.owner, s.halt, s.awaits, s.wait_name,
       s.correlation, s.woken_by, s.ready_at, s.started_at, s.due_at, s.error, s.progress, count(*) OVER () AS open,
       coalesce(s.resume ->> 'inner', s.path || '[') AS inner,
       CASE WHEN s.status = 'blocked' THEN ARRAY(
           SELECT p.path FROM jsonb_array_elements_text(s.parents) AS p(path)
           WHERE (SELECT q.settled_at FROM orchestrator.step q
                  WHERE q.execution_id = s.execution_id AND q.path = p.path) IS NULL LIMIT 20) END AS pending,
       CASE WHEN s.status = 'ready' THEN (
           SELECT count(*) FROM (
               SELECT FROM orchestrator.step r WHERE r.status = 'ready' AND r.queue = s.queue
                  AND r.ready_at < s.ready_at LIMIT {AHEAD}) before) END AS ahead,
       CASE WHEN s.awaits = 'body' AND jsonb_typeof(s.resume -> 'count') = 'number'
            THEN CAST(s.resume ->> 'count' AS int) END AS count,
       CASE WHEN s.awaits = 'body' AND s.resume ? 'count' THEN (
           SELECT count(*) FROM (
               SELECT FROM orchestrator.step b
               WHERE b.execution_id = s.execution_id AND b.path >= s.path || '[' AND b.path < s.path || chr(92)
               GROUP BY split_part(substr(b.path, length(s.path) + 2), ']', 1)
               HAVING bool_and(b.settled_at IS NOT NULL)) iterations) END AS done
FROM orchestrator.step s
WHERE s.execution_id = :execution AND s.{OPEN} ORDER BY s.status = 'blocked', s.path LIMIT :limit
""")

OWNERS = text("""
SELECT boot_id, name, seen, buried_at, stopped_at FROM orchestrator.worker WHERE boot_id = ANY(:boots)
""")

#: Living nodes by the queues that they consume.
CONSUMERS = text("""
SELECT q.name, count(*) FROM orchestrator.worker w, unnest(w.queues) AS q(name)
WHERE w.buried_at IS NULL AND w.stopped_at IS NULL
  AND w.seen > clock_timestamp() - CAST(:silence AS float8) * interval '1 second'
GROUP BY q.name
""")

#: The first of the sweeps that fire every second or two; by the primary key.
FIRED = text("SELECT max(fire_at) FROM orchestrator.schedule_fire WHERE schedule = 'orchestrator.timers'")

CHILDREN = text(f"""
SELECT id, parent_path, definition_name, status FROM orchestrator.execution
WHERE parent_id = :execution AND status NOT IN ({FINAL}) ORDER BY id LIMIT 20
""")

FAILED_UNDOS = text("""
SELECT undoes, error FROM orchestrator.step
WHERE execution_id = :execution AND undoes IS NOT NULL AND status = 'failed' ORDER BY settled_at LIMIT 20
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """An execution and what stands around it, at a moment."""

    #: Columns of STANDING.
    execution: Mapping[str, Any]
    #: Columns of STEPS, the first MOST open ones, blocked ones last.
    steps: tuple[Mapping[str, Any], ...] = ()
    #: Nodes that hold its steps, by boot id.
    owners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Living nodes by queue.
    consumers: Mapping[str, int] = field(default_factory=dict)
    #: When a beat last fired; None when none ever did.
    fired: datetime | None = None
    #: Executions that it has started and waits for, which go on.
    children: tuple[Mapping[str, Any], ...] = ()
    #: Paths of steps that are settled, and who is at work on them all the same.
    stragglers: tuple[tuple[str, str], ...] = ()
    #: What could not be undone, each with its error.
    failed_undos: tuple[Mapping[str, Any], ...] = ()


def read(connection: Connection, execution_id: str, silence: float) -> Reading | None:
    """Everything that an explanation needs; None when there is no such execution.

    Args:
        silence: a node that was not heard for so many seconds is dead.
    """
    where = {"execution": execution_id}
    row = connection.execute(STANDING, where).first()
    if row is None:
        return None
    steps = _rows(connection.execute(STEPS, where | {"limit": MOST}))
    boots = sorted({step["owner"].partition(".")[0] for step in steps if step["owner"] is not None})
    owners = _rows(connection.execute(OWNERS, {"boots": boots}))
    return Reading(
        execution=dict(row._mapping),
        steps=steps,
        owners={owner["boot_id"]: owner for owner in owners},
        consumers={found[0]: found[1] for found in connection.execute(CONSUMERS, {"silence": silence})},
        fired=connection.execute(FIRED).scalar(),
        children=_rows(connection.execute(CHILDREN, where)),
        stragglers=tuple(stragglers.of(connection, execution_id)),
        failed_undos=_rows(connection.execute(FAILED_UNDOS, where)),
    )


def _rows(result: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(dict(row._mapping) for row in result)
