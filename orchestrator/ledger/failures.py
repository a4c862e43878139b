"""How a failed attempt is settled: another follows, or the step has failed for good and somebody must bear it.

Who bears it is worked out from the definition (compiler/failure.py) and decides which statement is sent; each of them
matches the claim's token, so that of a worker and a sweep that fences it one wins.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.fragments import EVENTS, STILL_HELD, STOPPED, SUCCESSORS, statement
from orchestrator.model.exits import FAILED

#: Ends an attempt that another will follow. Not if the execution is flagged meanwhile: then it is the last.
SETTLE_RETRY = statement(f"""
WITH d AS (
    UPDATE orchestrator.step s SET owner = NULL, failures = s.failures + 1, error = CAST(:error AS jsonb),
           failing_since = coalesce(s.failing_since, s.started_at),
           status = CASE WHEN {STOPPED} THEN 'failed' ELSE 'retrying' END,
           due_at = CASE WHEN {STOPPED} THEN NULL
                         ELSE clock_timestamp() + CAST(:delay AS float8) * interval '1 second' END,
           settled_at = CASE WHEN {STOPPED} THEN clock_timestamp() END
    FROM orchestrator.execution x
    WHERE x.id = s.execution_id AND s.execution_id = :execution AND s.path = :path AND s.status = 'running'
      AND s.attempt = :attempt AND s.owner = :owner
    RETURNING s.tenant, s.halt, s.status, s.error, s.due_at
), e AS ({EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('error', error, 'due_at', due_at) FROM d
)
SELECT halt, status FROM d
""")

_FAIL = f"""
    UPDATE orchestrator.step SET owner = NULL, failures = failures + 1, error = CAST(:error AS jsonb),
           status = :outcome, due_at = NULL, settled_at = clock_timestamp(), exit = :exit, woken_by = NULL
    WHERE {STILL_HELD} RETURNING tenant, halt, status, error
"""
_FAILED_EVENT = """
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('error', error) FROM d
"""

#: Ends a step as failed for good and flags its execution; a paused one is flagged when it is resumed.
SETTLE_FAILED = statement(f"""
WITH d AS ({_FAIL}), x AS (
    UPDATE orchestrator.execution SET
           status = CASE WHEN execution.paused_at IS NULL THEN 'failing' ELSE execution.status END,
           rollback = rollback AND :rollback,
           error = jsonb_build_object('step', CAST(:path AS text)) || CAST(:error AS jsonb)
    FROM d WHERE id = :execution AND (execution.status = 'running'
                                      OR execution.status IN ('pausing', 'paused') AND execution.error IS NULL)
    RETURNING execution.tenant, execution.error, execution.status
), e AS ({EVENTS} {_FAILED_EVENT}
    UNION ALL
    SELECT CAST(:execution AS uuid), tenant, 'execution_failing', NULL, NULL, jsonb_build_object('error', error) FROM x
    WHERE status = 'failing'
)
SELECT halt, status FROM d
""")

#: Ends a step as failed for good and goes on by an exit: somebody behind it catches or bears the failure.
SETTLE_CAUGHT = statement(f"""
WITH d AS ({_FAIL}), n AS ({SUCCESSORS}), e AS ({EVENTS} {_FAILED_EVENT}
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL, NULL FROM n
)
SELECT (SELECT halt FROM d) AS halt, (SELECT status FROM d) AS status,
       (SELECT array_agg(path ORDER BY path) FROM n WHERE status = 'ready') AS ready
""")

#: Ends a step as failed for good and breaks off the body around it; the first error counts.
SETTLE_BREAKING = statement(f"""
WITH d AS ({_FAIL}), b AS (
    UPDATE orchestrator.step SET woken_by = 'broken',
           error = jsonb_build_object('step', CAST(:path AS text)) || CAST(:error AS jsonb)
    FROM d WHERE execution_id = :execution AND path = :container AND step.status = 'waiting' AND awaits = 'body'
      AND woken_by IS DISTINCT FROM 'broken'
), e AS ({EVENTS} {_FAILED_EVENT})
SELECT halt, status FROM d
""")


#: Read by failures only, and only where a budget of time asks for it.
FAILING_FOR = text("""
SELECT CAST(extract(epoch FROM clock_timestamp() - coalesce(failing_since, started_at)) AS float8)
FROM orchestrator.step WHERE execution_id = :execution AND path = :path
""")


def failing_for(connection: Connection, held: Claim) -> float:
    """Seconds since the first failed attempt at a step began, this one included."""
    found: float | None = connection.execute(FAILING_FOR, {"execution": held.execution_id, "path": held.path}).scalar()
    return found or 0.0


def settle_retry(connection: Connection, held: Claim, error: str, *, delay: float) -> Settled | None:
    """Record a failed attempt, to be followed by another `delay` seconds later; None means fenced."""
    row = SETTLE_RETRY.first(connection, {**held.token(), "error": error, "delay": delay})
    return None if row is None else Settled(halted=row[0], status=row[1])


def settle_failed(
    connection: Connection, held: Claim, error: str, *, outcome: str, rollback: bool = True
) -> Settled | None:
    """Record that a step has failed for good (`failed` or `timed_out`) and flag its execution; None means fenced.

    Args:
        rollback: whether what was done is undone.
    """
    row = SETTLE_FAILED.first(
        connection, {**held.token(), "error": error, "outcome": outcome, "rollback": rollback, "exit": None}
    )
    return None if row is None else Settled(halted=row[0], status=row[1])


def settle_caught(
    connection: Connection, held: Claim, error: str, *, outcome: str, exit_by: str, successors: str
) -> Settled | None:
    """Record that a step has failed for good and go on by an exit; None means fenced."""
    row = SETTLE_CAUGHT.first(
        connection, {**held.token(), "error": error, "outcome": outcome, "exit": exit_by, "successors": successors}
    )
    return None if row is None or row[0] is None else Settled(halted=row[0], status=row[1], ready=tuple(row[2] or ()))


def settle_breaking(connection: Connection, held: Claim, error: str, *, outcome: str, container: str) -> Settled | None:
    """Record that a step has failed for good and, with it, the body of the step `container`; None means fenced."""
    row = SETTLE_BREAKING.first(
        connection, {**held.token(), "error": error, "outcome": outcome, "exit": FAILED, "container": container}
    )
    return None if row is None else Settled(halted=row[0], status=row[1])
