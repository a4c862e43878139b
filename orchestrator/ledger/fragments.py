"""Parts that the statements on a step's path share."""

from __future__ import annotations

from orchestrator.ledger.statement import Statement
from orchestrator.ledger.tables import OPEN


def statement(text: str) -> Statement:
    """A constant statement; `<open>` stands for the condition of an open step."""
    return Statement(text.replace("<open>", OPEN))


STILL_HELD = (
    "execution_id = :execution AND path = :path AND status = 'running' AND attempt = :attempt AND owner = :owner"
)
SUCCEED = f"""
    UPDATE orchestrator.step SET status = 'succeeded', output = CAST(:output AS jsonb), owner = NULL, due_at = NULL,
           settled_at = clock_timestamp(), woken_by = NULL, exit = :exit,
           resume = CASE WHEN resume ? 'items' THEN resume END
    WHERE {STILL_HELD} RETURNING tenant, halt, output
"""
SUCCEEDED_EVENT = """
    SELECT CAST(:execution AS uuid), tenant, 'step_succeeded', CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('output', output) FROM d
"""
#: A step `s` of an execution `x` goes on no more. One that an operator has paused goes on as if it ran, but for claims.
#: Not if a step of it has failed for good meanwhile: then it only waits to fail. A compensation goes on to its end.
STOPPED = """
    (s.undoes IS NULL AND (s.halt OR x.status <> 'running' AND NOT (x.status IN ('pausing', 'paused')
                                                                     AND x.error IS NULL)))
"""
#: The execution goes forward, if perhaps not just now: what is behind a step may be made ready.
LIVE = """
    EXISTS (SELECT FROM orchestrator.execution
            WHERE id = :execution AND (status = 'running' OR status IN ('pausing', 'paused') AND error IS NULL))
"""
EVENTS = "INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt, data)"


def inserted(rows: str) -> str:
    """Inserts what a settle `d` brings about: rows that are ready, blocked (ledger/joins.py says why) or skipped.

    A row that names joins in `unless` leads only to these, and each does without some of its parents: once one of them
    is decided, the row has lost and is cancelled. A settle at the very moment of that decision may not see it, and then
    a step starts for nothing.

    Args:
        rows: an SQL expression that gives them as a JSON array.
    """
    return f"""
        INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, parents, edges, need, exit, ready_xid,
                                       ready_at, settled_at)
        SELECT :execution, r.path, d.tenant, q.status, r.queue, r.parents, r.edges, r.need, r.exit,
               CASE q.status WHEN 'ready' THEN pg_current_xact_id() END, clock_timestamp(),
               CASE WHEN q.status IN ('skipped', 'cancelled') THEN clock_timestamp() END
        FROM d, jsonb_to_recordset({rows})
             AS r(path text, status text, queue text, parents jsonb, edges jsonb, need int, exit text, unless jsonb),
             LATERAL (SELECT CASE WHEN r.unless IS NOT NULL AND EXISTS (
                 SELECT FROM orchestrator.step j WHERE j.execution_id = :execution AND j.status <> 'blocked'
                    AND j.path IN (SELECT jsonb_array_elements_text(r.unless))) THEN 'cancelled' ELSE r.status END
             ) AS q(status)
    """


#: The rows of :successors, unless the execution goes forward no more.
SUCCESSORS = f"""
    {inserted("CAST(:successors AS jsonb)")}
    WHERE NOT d.halt AND {LIVE}
    ON CONFLICT DO NOTHING RETURNING path, status, tenant
"""
