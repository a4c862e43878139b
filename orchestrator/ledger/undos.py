"""How compensations begin for a part of an execution, and how each is settled.

They are blocked one behind the other, in the order in which they undo. Those of a whole execution begin with its turn
(ledger/halts.py). Those of a part, the steps that a step with a body holds, begin with that step in hand: it is claimed
once nothing of its body is open, and lets go of its claim in the statement that inserts them. So of two owners one
begins the undo, and no attempt that is undone can run any more; where a loser of a race is at work still, the step
waits for that first. It is woken when no compensation is open (ledger/parks.py), and then fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.fragments import EVENTS, STILL_HELD, STOPPED, statement
from orchestrator.ledger.stragglers import at_work_within
from orchestrator.model.identity import UNDO_PREFIX, undo_path
from orchestrator.model.state import StepStatus

#: Lets go of a step whose body is undone before it fails. Not once its execution is flagged: then the whole goes back.
#: As long as somebody is at work in that body, it waits as for one that is broken off, and fails once more after.
BEGIN_PART = statement(f"""
WITH late AS MATERIALIZED (
    SELECT WHERE {at_work_within(":execution", "CAST(:inner AS text)")}
), d AS (
    UPDATE orchestrator.step s SET owner = NULL, crashes = 0, due_at = NULL, ready_at = clock_timestamp(),
           status = CASE WHEN {STOPPED} THEN 'cancelled' ELSE 'waiting' END,
           settled_at = CASE WHEN {STOPPED} THEN clock_timestamp() END,
           awaits = CASE WHEN {STOPPED} THEN NULL WHEN EXISTS (SELECT FROM late) THEN 'body' ELSE 'undo' END,
           woken_by = CASE WHEN {STOPPED} THEN s.woken_by ELSE 'broken' END,
           error = CASE WHEN {STOPPED} THEN s.error ELSE CAST(:error AS jsonb) END
    FROM orchestrator.execution x
    WHERE x.id = s.execution_id AND s.execution_id = :execution AND s.path = :path AND s.status = 'running'
      AND s.attempt = :attempt AND s.owner = :owner
    RETURNING s.tenant, s.status, s.awaits, s.status = 'cancelled' AS halt
), n AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, undoes, parents, queue, ready_xid, ready_at)
    SELECT :execution, r.path, d.tenant, r.status, r.undoes, r.parents, r.queue,
           CASE r.status WHEN 'ready' THEN pg_current_xact_id() END, clock_timestamp()
    FROM d, jsonb_to_recordset(CAST(:rows AS jsonb))
         AS r(path text, status text, undoes text, parents jsonb, queue text)
    WHERE NOT d.halt AND d.awaits = 'undo'
    RETURNING path, status, tenant
), e AS ({EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           CASE WHEN NOT halt THEN jsonb_build_object('awaits', awaits, 'inner', CAST(:inner AS text)) END FROM d
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL, NULL FROM n
)
SELECT (SELECT halt FROM d) AS halt, (SELECT status FROM d) AS status,
       (SELECT array_agg(path) FROM n WHERE status = 'ready') AS ready
""")

#: Whether something of a part could not be undone; by the index of compensations.
NOT_UNDONE = text(f"""
SELECT EXISTS (
    SELECT FROM orchestrator.step WHERE execution_id = :execution AND undoes IS NOT NULL
       AND status IN ('failed', 'cancelled') AND starts_with(path, '{UNDO_PREFIX}' || :inner))
""")

#: Ends a compensation, readies the one behind it, or with the last one ends the execution.
SETTLE_UNDO = statement(f"""
WITH RECURSIVE d AS (
    UPDATE orchestrator.step SET owner = NULL, output = CAST(:output AS jsonb), error = CAST(:error AS jsonb),
           status = :outcome, due_at = NULL, settled_at = clock_timestamp()
    WHERE {STILL_HELD} RETURNING tenant, halt, status, output, error
), n AS (
    UPDATE orchestrator.step SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp()
    FROM d
    WHERE execution_id = :execution AND step.status = 'blocked' AND undoes IS NOT NULL
      AND parents = jsonb_build_array(CAST(:path AS text)) AND NOT CAST(:stop AS boolean)
    RETURNING path, step.tenant
), behind AS (
    SELECT CAST(:path AS text) COLLATE "C" AS path WHERE CAST(:stop AS boolean)
    UNION ALL
    SELECT s.path FROM behind JOIN orchestrator.step s ON s.execution_id = :execution AND s.undoes IS NOT NULL
       AND s.status = 'blocked' AND s.parents = jsonb_build_array(behind.path)
), l AS (
    UPDATE orchestrator.step SET status = 'cancelled', settled_at = clock_timestamp() FROM d
    WHERE execution_id = :execution AND step.status = 'blocked' AND undoes IS NOT NULL
      AND CAST(:stop AS boolean) AND path IN (SELECT b.path FROM behind b)
    RETURNING path, step.tenant
), x AS (
    UPDATE orchestrator.execution SET settled_at = clock_timestamp(),
           status = CASE WHEN d.status = 'failed' OR EXISTS (
               SELECT FROM orchestrator.step WHERE execution_id = :execution AND undoes IS NOT NULL
                  AND step.status = 'failed') THEN 'compensation_failed' ELSE 'compensated' END
    FROM d
    WHERE id = :execution AND execution.status = 'compensating' AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND path <> :path AND step.<open>
           AND NOT CAST(:stop AS boolean))
    RETURNING execution.tenant, execution.status
), e AS ({EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_strip_nulls(jsonb_build_object('error', error)) || jsonb_build_object('output', output) FROM d
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_ready', path, NULL, NULL FROM n
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_cancelled', path, NULL, NULL FROM l
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'execution_' || status, NULL, NULL, NULL FROM x
)
SELECT (SELECT halt FROM d) AS halt, (SELECT array_agg(path) FROM n) AS ready, (SELECT status FROM x) AS finished
""")


def rows(undo: Sequence[tuple[str, str]]) -> str:
    """The rows of compensations, each behind the one before it, as a JSON array.

    Args:
        undo: path of the step to undo and queue of its compensation, in order.
    """
    return json.dumps(list(_rows(undo)))


def _rows(undo: Sequence[tuple[str, str]]) -> Iterator[dict[str, object]]:
    before: str | None = None
    for path, queue in undo:
        row: dict[str, object] = {"path": undo_path(path), "undoes": path, "queue": queue}
        behind: dict[str, object] = {"status": StepStatus.BLOCKED, "parents": [before]}
        yield row | ({"status": StepStatus.READY} if before is None else behind)
        before = undo_path(path)


def begin_part(
    connection: Connection, held: Claim, error: str, undo: Sequence[tuple[str, str]], *, inner: str
) -> Settled | None:
    """Let go of a step that has failed until what its body did is undone (status waiting); None means fenced.

    Args:
        error: what it is to fail with then, as JSON text.
        undo: as for `rows`; not empty.
        inner: what the paths of its body begin with.
    """
    row = BEGIN_PART.first(connection, {**held.token(), "error": error, "rows": rows(undo), "inner": inner})
    if row is None or row[0] is None:
        return None
    return Settled(halted=row[0], status=row[1], ready=tuple(row[2] or ()))


def is_undone(connection: Connection, execution_id: str, inner: str) -> bool:
    """Whether nothing of a part could not be undone."""
    return not connection.execute(NOT_UNDONE, {"execution": execution_id, "inner": inner}).scalar_one()


def settle_undo(
    connection: Connection, held: Claim, *, outcome: str, output: str | None, error: str | None, stop: bool = False
) -> Settled | None:
    """Record how a compensation ended (`succeeded` or `failed`) and ready the next; None means fenced.

    Args:
        stop: if it failed, leave the others alone.
    """
    parameters = {**held.token(), "outcome": outcome, "output": output, "error": error}
    parameters["stop"] = stop and outcome == StepStatus.FAILED
    row = SETTLE_UNDO.first(connection, parameters)
    return None if row is None or row[0] is None else Settled(halted=row[0], ready=tuple(row[1] or ()), finished=row[2])
