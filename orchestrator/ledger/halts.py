"""Flag, drain, undo: how an execution stops going forward.

The flag (status failing, cancelling ...) commits first. Then the drain halts every open forward row: running attempts
stay and may settle, the rest is cancelled. A claim that commits after a drain's snapshot either updated a row that the
drain waited for, or inserted one, in a settle that the drain waited for, that the drain's own snapshot did not show;
hence the drain repeats until a new snapshot shows nothing left to halt. After the flag's commit no statement can insert
another.

Whoever is to drain has read the flag earlier, and may be late: others have drained, the execution has ended, and has
been taken up again. So each drain asks for the flag once more, and locks it: what ends the execution waits for the
drain, and once it has ended the drain halts nothing. The same holds for a body that is broken off, whose flag is on the
step around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from orchestrator.ledger import undos
from orchestrator.ledger.controls import BY, By, audited
from orchestrator.ledger.stragglers import at_work
from orchestrator.ledger.tables import FINAL, OPEN
from orchestrator.model.identity import UNDO_PREFIX
from orchestrator.model.snapshot import Attempted
from orchestrator.model.state import StepStatus

_FLAGGED = "id = :execution AND status IN ('failing', 'cancelling', 'timing_out')"
_BROKEN = "execution_id = :execution AND path = :container AND status = 'waiting' AND woken_by = 'broken'"

DRAIN = text(f"""
WITH x AS MATERIALIZED (
    SELECT FROM orchestrator.execution WHERE {_FLAGGED} FOR SHARE
), b AS MATERIALIZED (
    SELECT FROM orchestrator.step WHERE {_BROKEN} FOR SHARE
), h AS (
    UPDATE orchestrator.step SET halt = true, ready_xid = NULL,
           was = CASE status WHEN 'running' THEN NULL ELSE status END, was_due_at = due_at,
           status = CASE status WHEN 'running' THEN status ELSE 'cancelled' END,
           due_at = CASE status WHEN 'running' THEN due_at END,
           settled_at = CASE status WHEN 'running' THEN NULL ELSE clock_timestamp() END
    WHERE execution_id = :execution AND undoes IS NULL AND NOT halt AND {OPEN} AND starts_with(path, :inner)
      AND (EXISTS (SELECT FROM x) OR EXISTS (SELECT FROM b))
    RETURNING path, status, tenant, attempt
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt)
    SELECT :execution, tenant, 'step_cancelled', path, attempt FROM h WHERE status = 'cancelled'
)
SELECT count(*) FROM h
""")

#: In order of completion: the order of the settling events, as clocks may stand or step back.
ATTEMPTED = text(f"""
SELECT s.path, s.status, s.transactional, u.status FROM orchestrator.step s LEFT JOIN (
    SELECT path, max(id) AS id FROM orchestrator.event
    WHERE execution_id = :execution AND type IN ('step_succeeded', 'step_failed', 'step_cancelled', 'step_timed_out')
    GROUP BY path
) e ON e.path = s.path
LEFT JOIN orchestrator.step u ON u.execution_id = :execution AND u.path = '{UNDO_PREFIX}' || s.path
WHERE s.execution_id = :execution AND s.undoes IS NULL AND s.attempt > 0 AND starts_with(s.path, :inner) ORDER BY e.id
""")

#: Compensations that are open then are those of a part that goes back: the whole waits for it.
_DRAINED = f"""
    {_FLAGGED} AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND {OPEN})
    AND NOT EXISTS (SELECT FROM orchestrator.execution c WHERE c.parent_id = :execution AND c.status NOT IN ({FINAL}))
    AND NOT {at_work(":execution")}
"""

#: What was worked out from the execution's row holds as long as nobody has written that: it may have ended, have been
#: taken up again, and be flagged anew, with more to undo.
_UNCHANGED = "coalesce(CAST(:stamp AS text), CAST(xmin AS text)) = CAST(xmin AS text)"

#: Whoever works the list out looks at the compensations earlier. One of a part that ended since then is done, and what
#: stands behind it in the list would wait for it for good.
_LISTED = """
    NOT EXISTS (SELECT FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(path text)
                JOIN orchestrator.step u ON u.execution_id = :execution AND u.path = r.path
                WHERE u.status NOT IN ('failed', 'cancelled'))
"""

#: `after` an end, for an execution that its parent or an operator takes back, or any of the flags. With `seen`, only
#: after the end that was looked at: it may have gone on since, and have ended the same way with more to undo. What a
#: part of it could not undo is tried once more, in its place.
BEGIN_UNDO = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET status = 'compensating', settled_at = NULL, retry_at = NULL
    WHERE id = :execution AND CASE WHEN CAST(:after AS text) <> '' THEN status = :after AND purged_at IS NULL
                                  AND settled_at = coalesce(CAST(:seen AS timestamptz), settled_at)
                                  AND NOT {at_work(":execution")}
                                ELSE {_DRAINED} AND {_UNCHANGED} END
      AND {_LISTED}
    RETURNING id, tenant
), n AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, undoes, parents, queue, ready_xid, ready_at)
    SELECT x.id, r.path, x.tenant, r.status, r.undoes, r.parents, r.queue,
           CASE r.status WHEN 'ready' THEN pg_current_xact_id() END, clock_timestamp()
    FROM x, jsonb_to_recordset(CAST(:rows AS jsonb))
         AS r(path text, status text, undoes text, parents jsonb, queue text)
    ON CONFLICT (execution_id, path) DO UPDATE SET status = excluded.status, parents = excluded.parents, failures = 0,
        crashes = 0, failing_since = NULL, error = NULL, ready_xid = excluded.ready_xid, ready_at = excluded.ready_at,
        settled_at = NULL, resume = NULL, woken_by = NULL
        WHERE step.status IN ('failed', 'cancelled')
    RETURNING path, status, tenant
), a AS ({audited("compensate")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT id, tenant, 'execution_compensating', NULL, nullif({BY}, '{{}}') FROM x
    UNION ALL SELECT :execution, tenant, 'step_' || status, path, NULL FROM n
)
SELECT id FROM x
""")

END = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET settled_at = clock_timestamp(), status = CASE status
           WHEN 'failing' THEN 'failed' WHEN 'cancelling' THEN 'cancelled' ELSE 'timed_out' END,
           retry_at = CASE status WHEN 'failing'
                                  THEN clock_timestamp() + CAST(:retry_after AS float8) * interval '1 second' END
    WHERE {_DRAINED} AND {_UNCHANGED} RETURNING id, tenant, status, retry_at
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_' || status,
           CASE WHEN retry_at IS NOT NULL THEN jsonb_build_object('retry_at', retry_at) END FROM x
)
SELECT status FROM x
""")

#: Attempts that still run, and rows that a drain did not see; none of either where there is nothing to drain any more.
LEFT = text(f"""
SELECT count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE NOT halt) FROM orchestrator.step
WHERE execution_id = :execution AND undoes IS NULL AND {OPEN} AND starts_with(path, :inner)
  AND (EXISTS (SELECT FROM orchestrator.execution WHERE {_FLAGGED})
       OR EXISTS (SELECT FROM orchestrator.step WHERE {_BROKEN}))
""")


def drain(connection: Connection, execution_id: str, inner: str = "", *, container: str = "") -> int:
    """Halt every open forward step of a flagged execution; the number of attempts that still run. 0 also for one that
    is not flagged any more, of which nothing is halted.

    Args:
        inner: halt only steps whose paths begin with this: a body that is broken off. Its rows come from settles of its
            own steps only, so that a new snapshot without any that is not halted is final here too.
        container: the step around that body. It says whether the body is broken off still; of a flagged execution it is
            not asked.
    """
    where = {"execution": execution_id, "inner": inner, "container": container}
    while True:
        connection.execute(DRAIN, where)
        # A new snapshot: a drain that waited for a settle has halted nothing and yet did not see what that inserted.
        running, unseen = connection.execute(LEFT, where).one()
        if not unseen:
            return int(running)


def attempted(connection: Connection, execution_id: str, inner: str = "") -> list[Attempted]:
    """Forward steps that were attempted, in order of completion.

    Args:
        inner: only those whose paths begin with this. The whole history is read all the same.
    """
    return [
        Attempted(
            path=row[0],
            status=StepStatus(row[1]),
            transactional=row[2],
            undo=None if row[3] is None else StepStatus(row[3]),
        )
        for row in connection.execute(ATTEMPTED, {"execution": execution_id, "inner": inner})
    ]


def begin_undo(
    connection: Connection,
    execution_id: str,
    undo: Sequence[tuple[str, str]],
    *,
    after: str = "",
    seen: datetime | None = None,
    stamp: str | None = None,
    by: By | None = None,
) -> bool:
    """Start compensating a drained execution, if nobody else did and no attempt still runs.

    Args:
        undo: path of the step to undo and queue of its compensation, in order; each waits for the one before it.
        after: the status that it has ended with, for one that is taken back later.
        seen: when it had ended so.
        stamp: of the row that was looked at, for one that has not ended; None takes any.
        by: who commands it, if anybody does.
    """
    who = by.parameters() if by is not None else {"actor": None, "reason": None, "parameters": "{}"}
    parameters = {"execution": execution_id, "rows": undos.rows(undo), "after": after, "seen": seen, **who}
    parameters["stamp"] = stamp
    return connection.execute(BEGIN_UNDO, parameters).first() is not None


def end(
    connection: Connection, execution_id: str, *, retry_after: float | None = None, stamp: str | None = None
) -> str | None:
    """End a drained execution that has nothing to undo; its final status, or None when it was not ours to end.

    Args:
        retry_after: seconds after which it is to be retried by itself, if it has failed.
        stamp: of the row that was looked at; None takes any.
    """
    parameters = {"execution": execution_id, "retry_after": retry_after, "stamp": stamp}
    status: str | None = connection.execute(END, parameters).scalar()
    return status
