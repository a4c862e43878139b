"""How a compensation is settled. They are blocked one behind the other, in the order in which they undo."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.fragments import EVENTS, STILL_HELD, statement
from orchestrator.model.state import StepStatus

#: Ends a compensation, readies the one behind it, or with the last one ends the execution.
SETTLE_UNDO = statement(f"""
WITH d AS (
    UPDATE orchestrator.step SET owner = NULL, output = CAST(:output AS jsonb), error = CAST(:error AS jsonb),
           status = :outcome, due_at = NULL, settled_at = clock_timestamp()
    WHERE {STILL_HELD} RETURNING tenant, halt, status, output, error
), n AS (
    UPDATE orchestrator.step SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp()
    FROM d
    WHERE execution_id = :execution AND step.status = 'blocked' AND undoes IS NOT NULL
      AND parents = jsonb_build_array(CAST(:path AS text)) AND NOT CAST(:stop AS boolean)
    RETURNING path, step.tenant
), l AS (
    UPDATE orchestrator.step SET status = 'cancelled', settled_at = clock_timestamp() FROM d
    WHERE execution_id = :execution AND step.status = 'blocked' AND undoes IS NOT NULL
      AND CAST(:stop AS boolean)
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
