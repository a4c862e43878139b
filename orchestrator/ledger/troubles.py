"""What incidents are made of: executions that ended badly, steps whose code no worker knows, queues nobody consumes.

Failures are looked for among the executions that ended within WINDOW, by an index that only unlucky ones are in. If no
sweep runs for longer than that, what failed at its beginning opens no incident; `orchestrator list` has it all the
same.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

#: How far back ended executions are looked at.
WINDOW = "1 hour"
#: As the index `execution_unlucky` has it.
UNLUCKY = "(x.error IS NOT NULL OR x.status = 'compensation_failed')"

#: A business error is an answer, no incident; one that could not be undone is.
FAILED = text(f"""
SELECT x.id, x.tenant, x.definition_id, x.definition_name, x.status, x.settled_at, coalesce(u.error, x.error) AS error,
       coalesce(u.path, x.error ->> 'step', '') AS path
FROM orchestrator.execution x LEFT JOIN LATERAL (
    SELECT s.path, s.error FROM orchestrator.step s
    WHERE s.execution_id = x.id AND x.status = 'compensation_failed' AND s.undoes IS NOT NULL AND s.status = 'failed'
    ORDER BY s.settled_at LIMIT 1
) u ON true
WHERE {UNLUCKY} AND x.settled_at > (SELECT clock_timestamp()) - interval '{WINDOW}'
  AND x.retry_at IS NULL AND (x.status = 'compensation_failed' OR x.status IN ('failed', 'timed_out', 'compensated')
       AND coalesce(x.error ->> 'category', 'system') NOT IN ('business', 'cancelled'))
  AND NOT EXISTS (SELECT FROM orchestrator.incident_subject k JOIN orchestrator.incident i ON i.id = k.incident_id
                  WHERE k.execution_id = x.id AND k.at >= x.settled_at AND i.kind <> 'queue_without_consumer')
ORDER BY x.settled_at LIMIT :limit
""")

#: Attempts whose next one comes within a minute, the longest wait of the default policy; by the index of what is due.
UNKNOWN = text("""
SELECT s.execution_id AS id, s.tenant, x.definition_id, x.definition_name, s.path, s.error, s.started_at AS settled_at
FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
WHERE s.due_at < (SELECT clock_timestamp()) + interval '1 minute' AND s.status = 'retrying'
  AND s.error ->> 'name' IN ('UnknownActivity', 'UnknownDefinition')
  AND NOT EXISTS (SELECT FROM orchestrator.incident_subject k
                  WHERE k.execution_id = s.execution_id AND k.path = s.path AND k.at >= s.started_at)
LIMIT :limit
""")

#: That a node lives; the caller adds which.
LIVING = """
    SELECT FROM orchestrator.worker w WHERE w.buried_at IS NULL AND w.stopped_at IS NULL
       AND w.seen > clock_timestamp() - CAST(:silence AS float8) * interval '1 second'
"""

#: From queue to queue through the index of ready steps, whatever the length of each.
UNCONSUMED = text(f"""
WITH RECURSIVE q AS (
    (SELECT queue FROM orchestrator.step WHERE status = 'ready' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT s.queue FROM orchestrator.step s WHERE s.status = 'ready' AND s.queue > q.queue
            ORDER BY s.queue LIMIT 1) FROM q WHERE q.queue IS NOT NULL
)
SELECT q.queue, s.tenant, s.execution_id AS id, s.path, s.ready_at
FROM q, LATERAL (
    SELECT s.tenant, s.execution_id, s.path, s.ready_at
    FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
    WHERE s.status = 'ready' AND s.queue = q.queue AND NOT s.halt AND x.status NOT IN ('created', 'pausing', 'paused')
      AND s.ready_at < (SELECT clock_timestamp()) - CAST(:age AS float8) * interval '1 second'
    ORDER BY s.ready_at LIMIT :each
) s
WHERE q.queue IS NOT NULL AND NOT EXISTS ({LIVING} AND q.queue = ANY(w.queues))
""")


def failed(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Executions that ended unluckily and that no incident knows, the oldest first."""
    return _rows(connection.execute(FAILED, {"limit": limit}))


def unknown(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Steps that are tried again because no worker knew their activity or definition, and that no incident knows."""
    return _rows(connection.execute(UNKNOWN, {"limit": limit}))


def unconsumed(connection: Connection, *, age: float, silence: float, each: int) -> list[dict[str, Any]]:
    """Steps that are ready for `age` seconds in queues that no living node consumes; the oldest `each` of every queue.

    Args:
        silence: a node that was not heard for so many seconds is dead.
    """
    return _rows(connection.execute(UNCONSUMED, {"age": age, "silence": silence, "each": each}))


def _rows(result: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in result]
