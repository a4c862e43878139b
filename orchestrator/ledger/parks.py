"""Letting go of a step that waits, and waking it: for its time, its body, its child, or a signal.

A step that waits has no owner. What it must remember stands on its row. Who wakes it turns it `ready`, as anything else
that a worker is to take up; so the message may be lost, and a sweep finds the row.

Lost wake-ups: whoever ends the last step of a body commits, and then asks whether any is open; of two that do not see
each other, each asks after its commit. A body whose last step ended before its container was parked cannot be: the
statement that parks the container inserts the body's first rows.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.fragments import EVENTS, STOPPED, SUCCESSORS, statement
from orchestrator.ledger.stragglers import at_work_within
from orchestrator.ledger.tables import FINAL, OPEN
from orchestrator.model.identity import UNDO_PREFIX

#: Lets go of a step, and inserts the first rows of its body. Not once its execution is flagged: then it is cancelled,
#: and remembers what it did when it was claimed, so that a retry lets it decide once more; but not to forget its child.
PARK = statement(f"""
WITH d AS (
    UPDATE orchestrator.step s SET owner = NULL, crashes = 0, error = CAST(:broken AS jsonb),
           resume = CASE WHEN {STOPPED} AND CAST(:awaits AS text) IS DISTINCT FROM 'child'
                         THEN s.resume ELSE CAST(:resume AS jsonb) END,
           woken_by = CASE WHEN {STOPPED} THEN s.woken_by WHEN CAST(:broken AS jsonb) IS NOT NULL THEN 'broken' END,
           status = CASE WHEN {STOPPED} THEN 'cancelled' ELSE 'waiting' END,
           settled_at = CASE WHEN {STOPPED} THEN clock_timestamp() END,
           awaits = :awaits, wait_name = :wait_name, correlation = :correlation, ready_at = clock_timestamp(),
           due_at = CASE WHEN {STOPPED} THEN NULL ELSE coalesce(CAST(:until AS timestamptz),
               clock_timestamp() + CAST(:seconds AS float8) * interval '1 second') END
    FROM orchestrator.execution x
    WHERE x.id = s.execution_id AND s.execution_id = :execution AND s.path = :path AND s.status = 'running'
      AND s.attempt = :attempt AND s.owner = :owner
    RETURNING s.tenant, s.status, s.due_at, s.status = 'cancelled' AS halt
), n AS ({SUCCESSORS}), e AS ({EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_strip_nulls(jsonb_build_object('awaits', CAST(:awaits AS text), 'name', CAST(:wait_name AS text),
                                                'due_at', due_at)) FROM d
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL, NULL FROM n
)
SELECT (SELECT halt FROM d) AS halt, (SELECT array_agg(path) FROM n WHERE status = 'ready') AS ready
""")

_WAKE = """
    status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp(), due_at = NULL, awaits = NULL,
    wait_name = NULL, correlation = NULL
"""

#: Something of a body is open; of one that is undone, a compensation.
_BODY_OPEN = f"""
    EXISTS (SELECT FROM orchestrator.step o WHERE o.execution_id = s.execution_id AND o.{OPEN}
              AND starts_with(o.path, CASE s.awaits WHEN 'undo' THEN '{UNDO_PREFIX}' ELSE '' END || <inner>))
"""

#: Attached children of a body that go on; with it they are cancelled, and what they did is undone by themselves first.
#: Or somebody is at work yet on a step of it that was settled without them.
_GOES_ON = f"""(EXISTS (
        SELECT FROM orchestrator.execution c
        WHERE c.parent_id = s.execution_id AND starts_with(c.parent_path, <inner>) AND c.status NOT IN ({FINAL}))
    OR {at_work_within("s.execution_id", "<inner>")})
"""

#: Wakes a step whose body has ended, or is undone. `inner` is what the paths of its body begin with.
WAKE_FOR_BODY = text(f"""
WITH w AS (
    UPDATE orchestrator.step s SET {_WAKE}, woken_by = coalesce(s.woken_by, 'body')
    WHERE s.execution_id = :execution AND s.path = :path AND s.status = 'waiting' AND s.awaits IN ('body', 'undo')
      AND NOT s.halt
      -- Not for the end of a body that it has left behind: a late message may ask for that of an earlier transition,
      -- and a row that was claimed and let go of again while this waited is not what the snapshot knows. Claims count.
      AND coalesce(s.resume ->> 'inner', CAST(:inner AS text)) = :inner
      AND s.attempt = (SELECT b.attempt FROM orchestrator.step b WHERE b.execution_id = :execution AND b.path = :path)
      AND NOT {_BODY_OPEN.replace("<inner>", ":inner")}
      AND NOT (s.woken_by IS NOT DISTINCT FROM 'broken' AND {_GOES_ON.replace("<inner>", ":inner")})
    RETURNING s.path, s.tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path)
    SELECT :execution, tenant, 'step_ready', path FROM w
)
SELECT path FROM w
""")

#: Steps that have waited a while for a body of which nothing is open: their last arriver died before it could wake
#: them. Not those that wait for a child of it to go back, which may take long; its end wakes them. And those whose body
#: is broken and not halted: whoever broke it died before the drain.
ASLEEP = text(f"""
SELECT s.execution_id, s.path, i.inner, s.woken_by IS NOT DISTINCT FROM 'broken' FROM orchestrator.step s,
       LATERAL (SELECT coalesce(s.resume ->> 'inner', s.path || '[') AS inner) i
WHERE s.awaits IN ('body', 'undo') AND s.status = 'waiting' AND NOT s.halt
  AND s.ready_at < (SELECT clock_timestamp()) - interval '2 s'
  AND (NOT {_BODY_OPEN.replace("<inner>", "i.inner")}
       AND NOT (s.woken_by IS NOT DISTINCT FROM 'broken' AND {_GOES_ON.replace("<inner>", "i.inner")})
       OR s.woken_by = 'broken' AND EXISTS (
           SELECT FROM orchestrator.step o WHERE o.execution_id = s.execution_id AND o.{OPEN} AND NOT o.halt
              AND starts_with(o.path, i.inner)))
LIMIT :limit
""")

#: What a body's steps must know of the loop around them.
LOOP = text("""
SELECT CAST(resume ->> 'count' AS int), CAST(resume ->> 'lanes' AS int),
       jsonb_path_query_array(resume, '$.items[$from to $to]', jsonb_build_object('from', CAST(:from AS int),
                                                                                'to', CAST(:to AS int)))
FROM orchestrator.step WHERE execution_id = :execution AND path = :path
""")


def park(
    connection: Connection,
    held: Claim,
    *,
    resume: Any,
    awaits: str | None = None,
    wait_name: str | None = None,
    correlation: str | None = None,
    seconds: float | None = None,
    until: str | None = None,
    body: str = "[]",
    broken: str | None = None,
) -> Settled | None:
    """Let go of a step until it is woken; None means fenced.

    Args:
        resume: what its kind must remember, as JSON data.
        awaits: `body`, `child` or `signal`, when it waits for more than its time.
        seconds, until: when its time has come.
        body: the first rows of its body, a JSON array.
        broken: the error that its body is being broken off with, as JSON text.
    """
    row = PARK.first(
        connection,
        {
            **held.token(),
            "resume": json.dumps(resume),
            "awaits": awaits,
            "wait_name": wait_name,
            "correlation": correlation,
            "seconds": seconds,
            "until": until,
            "successors": body,
            "broken": broken,
        },
    )
    return None if row is None or row[0] is None else Settled(halted=row[0], ready=tuple(row[1] or ()))


def wake_for_body(connection: Connection, execution_id: str, path: str, inner: str) -> bool:
    """Wake a step if nothing of its body is open; True to the one who did, and who publishes."""
    parameters = {"execution": execution_id, "path": path, "inner": inner}
    return connection.execute(WAKE_FOR_BODY, parameters).first() is not None


def asleep(connection: Connection, limit: int) -> list[tuple[str, str, str, bool]]:
    """Steps that nobody woke: execution id, path, what the paths of the body begin with, and whether it is broken."""
    return [(str(row[0]), row[1], row[2], row[3]) for row in connection.execute(ASLEEP, {"limit": limit})]


def loop(connection: Connection, execution_id: str, path: str, begin: int, end: int) -> tuple[int, int, list[Any]]:
    """Count of iterations, lanes, and the items from `begin` to `end` of the loop at a path."""
    row = connection.execute(LOOP, {"execution": execution_id, "path": path, "from": begin, "to": end}).one()
    return row[0] or 0, row[1] or 1, row[2]


RESUME = text("SELECT resume FROM orchestrator.step WHERE execution_id = :execution AND path = :path")


def resume(connection: Connection, execution_id: str, path: str) -> dict[str, Any]:
    """What a step that was let go of has to remember."""
    found: dict[str, Any] | None = connection.execute(RESUME, {"execution": execution_id, "path": path}).scalar()
    return found or {}
