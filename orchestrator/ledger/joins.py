"""When the steps before a step have settled.

Every parent's settle inserts the blocked row (the first wins) and commits; then this statement, alone, decides whether
the row becomes ready, is skipped, or can only fail. Two last arrivers both send it: the one that commits last sees
both. Asking inside the settling transaction would not do, as neither would see the other; a counter row would serialise
the whole fan-out. A crash between commit and join leaves a row that the stalled sweep finds.

What a settled row says never changes, so a decision made on a snapshot stands, and `status = 'blocked'` lets it be made
once. An edge [parent, exit] is live if the parent ended by that exit; without an exit, if it succeeded (by whichever
exit), or failed and `on_error: continue` made its exit `ok`. A parent whose exit is `failed` has failed, or was skipped
for a failure.

`need` NULL: all must have ended, none failed, and one at least be live; if none is live, nothing leads here, and the
step is skipped like they were. 0: all have ended, and not all were skipped. N: so many are live, whatever becomes of
the rest; once that cannot be, the row becomes ready with the exit `unmet`, and fails when it is claimed. If none is
live and none failed, it is skipped, but only when all have ended: what is decided early must not depend on who was
first.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.ledger.fragments import LIVE, inserted
from orchestrator.ledger.tables import OPEN

#: A scalar subquery per parent, so that the search stops at the first unsettled one however many there are.
_NONE_PENDING = """
    NOT EXISTS (SELECT FROM jsonb_array_elements_text(j.parents) AS p(path) WHERE (
        SELECT s.settled_at FROM orchestrator.step s WHERE s.execution_id = j.execution_id AND s.path = p.path
    ) IS NULL)
"""

#: By which exit a settled row ended; NULL is success.
_EXIT = """
    coalesce(s.exit, CASE s.status WHEN 'succeeded' THEN NULL WHEN 'skipped' THEN 'skipped' ELSE 'failed' END)
"""

#: How the edges of a blocked row stand. Only asked of rows that are worth it. LIMIT has each parent looked up by its
#: key: joined freely, all of a wide loop's steps may be read for a join with two parents.
_TALLY = f"""
    SELECT count(*) FILTER (WHERE t.ended AND (t.by = t.wanted OR t.wanted = 'ended'
                                               OR t.wanted IS NULL AND (t.status = 'succeeded' OR t.by = 'ok'))) AS
                                               live,
           count(*) FILTER (WHERE t.ended AND t.by = 'failed' AND t.wanted IS DISTINCT FROM 'ended') AS failed,
           count(*) FILTER (WHERE t.ended AND t.by IS DISTINCT FROM 'skipped') AS reached,
           count(*) FILTER (WHERE t.ended IS NOT TRUE) AS pending
    FROM (
        SELECT g.wanted, s.status, s.settled_at IS NOT NULL AS ended, {_EXIT} AS by
        FROM (SELECT edge ->> 0 AS path, edge ->> 1 AS wanted FROM jsonb_array_elements(j.edges) AS q(edge)
              UNION ALL SELECT path, NULL FROM jsonb_array_elements_text(j.parents) AS q(path) WHERE j.edges IS NULL) g
        LEFT JOIN LATERAL (
            SELECT status, exit, settled_at FROM orchestrator.step p
            WHERE p.execution_id = j.execution_id AND p.path = g.path LIMIT 1
        ) s ON true
    ) t
"""

_DECISION = """
    CASE
        WHEN need IS NULL THEN CASE WHEN failed > 0 THEN 'dead' WHEN live > 0 THEN 'ready' ELSE 'skipped' END
        WHEN need = 0 THEN CASE WHEN live + reached > 0 THEN 'ready' ELSE 'skipped' END
        WHEN live >= need THEN 'ready'
        WHEN live + pending >= need THEN NULL
        WHEN live + failed > 0 THEN 'unmet'
        WHEN pending > 0 THEN NULL
        ELSE 'skipped'
    END
"""

#: `when_skipped` and `when_dead` are the rows that follow if the step itself is skipped, for nothing or for a failure.
JOIN = text(f"""
WITH j AS MATERIALIZED (
    SELECT execution_id, path, parents, edges, need FROM orchestrator.step j
    WHERE execution_id = :execution AND path = :path AND status = 'blocked' AND undoes IS NULL AND NOT halt
      AND (need > 0 OR {_NONE_PENDING})
), v AS MATERIALIZED (
    SELECT j.path, {_DECISION} AS verdict FROM j, LATERAL ({_TALLY}) tally
), d AS (
    UPDATE orchestrator.step s SET
           status = CASE WHEN verdict IN ('ready', 'unmet') THEN 'ready' ELSE 'skipped' END,
           exit = CASE verdict WHEN 'unmet' THEN 'unmet' WHEN 'dead' THEN 'failed' END,
           ready_xid = CASE WHEN verdict IN ('ready', 'unmet') THEN pg_current_xact_id() END,
           ready_at = clock_timestamp(),
           settled_at = CASE WHEN verdict IN ('ready', 'unmet') THEN NULL ELSE clock_timestamp() END
    FROM v WHERE s.execution_id = :execution AND s.path = v.path AND s.status = 'blocked' AND NOT s.halt
      AND verdict IS NOT NULL AND {LIVE}
    RETURNING s.path, s.tenant, s.status, v.verdict
), n AS (
    {
    inserted('''CASE d.verdict WHEN 'skipped' THEN CAST(:when_skipped AS jsonb)
                                WHEN 'dead' THEN CAST(:when_dead AS jsonb) ELSE '[]' END''')
}
    ON CONFLICT DO NOTHING RETURNING path, status, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path)
    SELECT :execution, tenant, 'step_' || status, path FROM d
    UNION ALL SELECT :execution, tenant, 'step_' || status, path FROM n
)
SELECT verdict, (SELECT array_agg(path ORDER BY path) FROM n WHERE status = 'ready') FROM d
""")

#: Joins whose last arriver died between its commit and the join. Only those that JOIN would decide: any other would be
#: found each time, perhaps in the place of one that is lost.
LOST = text(f"""
SELECT execution_id, path FROM orchestrator.step j
WHERE status = 'blocked' AND undoes IS NULL AND NOT halt AND ready_at < (SELECT clock_timestamp()) - interval '2 s'
  AND {LIVE.replace(":execution", "j.execution_id")}
  AND ({_NONE_PENDING} OR need > 0 AND (SELECT {_DECISION} FROM ({_TALLY}) tally) IS NOT NULL)
LIMIT :limit
""")

DECIDED = text("""
SELECT FROM orchestrator.step WHERE execution_id = :execution AND path = :path AND status <> 'blocked'
""")

_LOSERS = f"""
    execution_id = :execution AND undoes IS NULL AND {OPEN}
    AND (path = ANY(:paths) OR EXISTS (SELECT FROM unnest(CAST(:paths AS text[])) AS l(path)
                                       WHERE starts_with(step.path, l.path || '[')))
"""

#: Whoever lost a race to a join with a number: fenced, as a result would come too late for anybody. Who is at work all
#: the same is noted (ledger/stragglers.py).
CANCEL_LOSERS = text(f"""
WITH lost AS MATERIALIZED (
    SELECT path, owner, started_at, due_at FROM orchestrator.step WHERE {_LOSERS} FOR UPDATE
), h AS (
    UPDATE orchestrator.step SET status = 'cancelled', owner = NULL, due_at = NULL, ready_xid = NULL,
           settled_at = clock_timestamp()
    FROM lost WHERE execution_id = :execution AND step.path = lost.path AND step.{OPEN}
    RETURNING step.path, step.tenant, step.attempt, lost.owner, lost.started_at, lost.due_at
), g AS (
    INSERT INTO orchestrator.straggler (execution_id, path, owner, tenant, attempt, started_at, due_at)
    SELECT :execution, path, owner, tenant, attempt, started_at, due_at FROM h WHERE owner IS NOT NULL
    ON CONFLICT DO NOTHING
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt)
    SELECT :execution, tenant, 'step_cancelled', path, attempt FROM h
)
SELECT count(*) FROM h
""")

LOSERS_LEFT = text(f"SELECT FROM orchestrator.step WHERE {_LOSERS} LIMIT 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """What became of a blocked row."""

    #: ready; unmet: ready too, to fail; skipped; dead: skipped for a failure.
    verdict: str
    #: Rows behind it that were made ready with it.
    ready: tuple[str, ...] = ()


def join(
    connection: Connection, execution_id: str, path: str, *, when_skipped: str = "[]", when_dead: str = "[]"
) -> Joined | None:
    """Decide a blocked step; None unless it was decided here, by the one who publishes what is ready.

    Args:
        when_skipped, when_dead: JSON arrays of the rows that follow if the step is skipped, for nothing or a failure.
    """
    row = connection.execute(
        JOIN, {"execution": execution_id, "path": path, "when_skipped": when_skipped, "when_dead": when_dead}
    ).first()
    return None if row is None else Joined(verdict=row[0], ready=tuple(row[1] or ()))


def decided(connection: Connection, execution_id: str, path: str) -> bool:
    """Whether a join has been made ready, or skipped."""
    return connection.execute(DECIDED, {"execution": execution_id, "path": path}).first() is not None


def lost(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Execution ids and paths of joins that nobody decided."""
    return [(str(row[0]), row[1]) for row in connection.execute(LOST, {"limit": limit})]


def cancel_losers(connection: Connection, execution_id: str, paths: list[str]) -> None:
    """Cancel the open ones of these steps, and whatever is open in their bodies.

    A statement that waited for a settle may have cancelled nothing, and yet did not see what that settle inserted; so a
    new snapshot is asked whether any is open still.
    """
    losers = {"execution": execution_id, "paths": paths}
    while True:
        connection.execute(CANCEL_LOSERS, losers)
        if connection.execute(LOSERS_LEFT, losers).first() is None:
            return
