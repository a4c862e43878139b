"""Who works on a step, and how an attempt ends: the statements on every step's path.

Concurrency: any number of workers may hold a message for the same step, dead owners' claims are released at any time,
and executions are flagged (failing, cancelling ...) while steps run. The claim's guarded UPDATE decides who works; the
fencing token (attempt, owner) in every settle decides who ends it. Nothing here reads before it writes.

A claim whose snapshot is older than a flag may still commit: the drain that follows each flag halts the row that it
claimed, or waits for it (ledger/halts.py). So `halt`, as RETURNING gives it, is exact.

All statements are constants, each one autocommit round trip, and none costs more in a longer execution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.statement import Statement
from orchestrator.ledger.tables import OPEN


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The right to work on one attempt of a step; attempt and owner are its fencing token."""

    execution_id: str
    path: str
    attempt: int
    owner: str
    #: Failed attempts so far: the retry budget that is used up.
    failures: int = 0

    def token(self) -> dict[str, Any]:
        """The parameters that every settling statement matches."""
        return {"execution": self.execution_id, "path": self.path, "attempt": self.attempt, "owner": self.owner}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What an activity may know of its execution; read together with the first claim of a segment."""

    tenant: str
    input: Any
    correlation_id: str | None
    labels: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What a settling statement did. `None` in its place means: fenced, nothing was written."""

    #: The execution takes no more forward steps.
    halted: bool
    #: The next step's claim, when it was asked for and granted.
    claimed: bool = False
    #: Rows that the statement made ready.
    ready: tuple[str, ...] = ()
    #: The status that the execution now has, when the statement ended it.
    finished: str | None = None
    #: The step's own status, where the statement chose it.
    status: str = ""


def _sql(statement: str) -> Statement:
    return Statement(statement.replace("<open>", OPEN))


_STILL_HELD = (
    "execution_id = :execution AND path = :path AND status = 'running' AND attempt = :attempt AND owner = :owner"
)
_SUCCEED = f"""
    UPDATE orchestrator.step SET status = 'succeeded', output = CAST(:output AS jsonb), owner = NULL, due_at = NULL,
           settled_at = clock_timestamp()
    WHERE {_STILL_HELD} RETURNING tenant, halt, output
"""
_SUCCEEDED_EVENT = """
    SELECT CAST(:execution AS uuid), tenant, 'step_succeeded', CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('output', output) FROM d
"""
_EVENTS = "INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt, data)"

#: A ready step becomes running for one owner. `want` is the execution's status in which it may.
CLAIM = _sql(f"""
WITH c AS (
    UPDATE orchestrator.step s SET status = 'running', attempt = s.attempt + 1, owner = :owner,
           transactional = :transactional, ready_xid = NULL, started_at = clock_timestamp(),
           due_at = clock_timestamp() + CAST(:timeout AS float8) * interval '1 second'
    FROM orchestrator.execution x
    WHERE s.execution_id = :execution AND s.path = :path AND s.status = 'ready' AND NOT s.halt
      AND x.id = s.execution_id AND x.status = :want
    RETURNING s.attempt, s.failures, x.tenant, x.input, x.correlation_id, x.labels
), e AS ({_EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_started', :path, attempt,
           jsonb_build_object('owner', CAST(:owner AS text)) FROM c
)
SELECT attempt, failures, tenant, input, correlation_id, labels FROM c
""")

#: Ends a step and goes on with its only successor in one statement. The successor's row does not exist yet: if it
#: does, or the execution was flagged, nothing is claimed and the caller goes the long way.
SETTLE_AND_CLAIM = _sql(f"""
WITH d AS ({_SUCCEED}),
c AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, attempt, owner, queue, transactional, ready_at,
                                   started_at, due_at)
    SELECT :execution, :next, d.tenant, 'running', 1, :owner, :queue, :transactional, clock_timestamp(),
           clock_timestamp(), clock_timestamp() + CAST(:timeout AS float8) * interval '1 second'
    FROM d
    WHERE NOT d.halt AND EXISTS (SELECT FROM orchestrator.execution WHERE id = :execution AND status = 'running')
    ON CONFLICT DO NOTHING RETURNING tenant
), e AS ({_EVENTS} {_SUCCEEDED_EVENT}
    UNION ALL
    SELECT CAST(:execution AS uuid), tenant, 'step_started', :next, 1, jsonb_build_object('owner', CAST(:owner AS text))
    FROM c
)
SELECT (SELECT halt FROM d) AS halt, EXISTS (SELECT FROM c) AS claimed
""")

#: Ends a step and inserts every successor: ready with one parent, blocked with several (ledger/joins.py says why).
SETTLE_AND_SPREAD = _sql(f"""
WITH d AS ({_SUCCEED}),
n AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, parents, ready_xid, ready_at)
    SELECT :execution, r.path, d.tenant, r.status, r.queue, r.parents,
           CASE r.status WHEN 'ready' THEN pg_current_xact_id() END, clock_timestamp()
    FROM d, jsonb_to_recordset(CAST(:successors AS jsonb)) AS r(path text, status text, queue text, parents jsonb)
    WHERE NOT d.halt AND EXISTS (SELECT FROM orchestrator.execution WHERE id = :execution AND status = 'running')
    ON CONFLICT DO NOTHING RETURNING path, status, tenant
), e AS ({_EVENTS} {_SUCCEEDED_EVENT}
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL, NULL FROM n
)
SELECT (SELECT halt FROM d) AS halt, (SELECT array_agg(path ORDER BY path) FROM n WHERE status = 'ready') AS ready
""")

#: Ends a last step, and with it the execution if no other open row is visible. Two last steps that do not see each
#: other leave it to `executions.FINISH`, which each calls after its commit.
SETTLE_AND_FINISH = _sql(f"""
WITH d AS ({_SUCCEED}),
x AS (
    UPDATE orchestrator.execution SET status = 'succeeded', output = CAST(:result AS jsonb),
           settled_at = clock_timestamp()
    FROM d
    WHERE id = :execution AND status = 'running' AND NOT d.halt AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND path <> :path AND <open>)
    RETURNING execution.tenant, execution.status, execution.output
), e AS ({_EVENTS} {_SUCCEEDED_EVENT}
    UNION ALL
    SELECT CAST(:execution AS uuid), tenant, 'execution_' || status, NULL, NULL, jsonb_build_object('output', output)
    FROM x
)
SELECT (SELECT halt FROM d) AS halt, (SELECT status FROM x) AS finished
""")

#: Ends an attempt that another will follow. Not if the execution is flagged meanwhile: then it is the last.
SETTLE_RETRY = _sql(f"""
WITH d AS (
    UPDATE orchestrator.step s SET owner = NULL, failures = s.failures + 1, error = CAST(:error AS jsonb),
           status = CASE WHEN s.halt OR x.status <> :want THEN 'failed' ELSE 'retrying' END,
           due_at = CASE WHEN s.halt OR x.status <> :want THEN NULL
                         ELSE clock_timestamp() + CAST(:delay AS float8) * interval '1 second' END,
           settled_at = CASE WHEN s.halt OR x.status <> :want THEN clock_timestamp() END
    FROM orchestrator.execution x
    WHERE x.id = s.execution_id AND s.execution_id = :execution AND s.path = :path AND s.status = 'running'
      AND s.attempt = :attempt AND s.owner = :owner
    RETURNING s.tenant, s.halt, s.status, s.error, s.due_at
), e AS ({_EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('error', error, 'due_at', due_at) FROM d
)
SELECT halt, status FROM d
""")

#: Ends a step as failed for good and flags its execution.
SETTLE_FAILED = _sql(f"""
WITH d AS (
    UPDATE orchestrator.step SET owner = NULL, failures = failures + 1, error = CAST(:error AS jsonb),
           status = :outcome, due_at = NULL, settled_at = clock_timestamp()
    WHERE {_STILL_HELD} RETURNING tenant, halt, status, error
), x AS (
    UPDATE orchestrator.execution SET status = 'failing',
           error = CAST(:error AS jsonb) || jsonb_build_object('step', CAST(:path AS text))
    FROM d WHERE id = :execution AND execution.status = 'running' RETURNING execution.tenant, execution.error
), e AS ({_EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('error', error) FROM d
    UNION ALL
    SELECT CAST(:execution AS uuid), tenant, 'execution_failing', NULL, NULL, jsonb_build_object('error', error) FROM x
)
SELECT halt, status FROM d
""")

#: Ends a compensation, readies the one behind it, or with the last one ends the execution.
SETTLE_UNDO = _sql(f"""
WITH d AS (
    UPDATE orchestrator.step SET owner = NULL, output = CAST(:output AS jsonb), error = CAST(:error AS jsonb),
           status = :outcome, due_at = NULL, settled_at = clock_timestamp()
    WHERE {_STILL_HELD} RETURNING tenant, halt, status, output, error
), n AS (
    UPDATE orchestrator.step SET status = 'ready', ready_xid = pg_current_xact_id(), ready_at = clock_timestamp()
    FROM d
    WHERE execution_id = :execution AND step.status = 'blocked' AND undoes IS NOT NULL
      AND parents = jsonb_build_array(CAST(:path AS text))
    RETURNING path, step.tenant
), x AS (
    UPDATE orchestrator.execution SET settled_at = clock_timestamp(),
           status = CASE WHEN d.status = 'failed' OR EXISTS (
               SELECT FROM orchestrator.step WHERE execution_id = :execution AND undoes IS NOT NULL
                  AND step.status = 'failed') THEN 'compensation_failed' ELSE 'compensated' END
    FROM d
    WHERE id = :execution AND execution.status = 'compensating' AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND path <> :path AND step.<open>)
    RETURNING execution.tenant, execution.status
), e AS ({_EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_' || status, CAST(:path AS text), CAST(:attempt AS int),
           jsonb_strip_nulls(jsonb_build_object('error', error)) || jsonb_build_object('output', output) FROM d
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_ready', path, NULL, NULL FROM n
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'execution_' || status, NULL, NULL, NULL FROM x
)
SELECT (SELECT halt FROM d) AS halt, (SELECT array_agg(path) FROM n) AS ready, (SELECT status FROM x) AS finished
""")

#: A late owner's result was dropped: kept for whoever asks why.
FENCED = text(f"""
{_EVENTS} SELECT :execution, tenant, 'attempt_fenced', :path, :attempt,
       jsonb_build_object('owner', CAST(:owner AS text))
FROM orchestrator.execution WHERE id = :execution
""")


def claim(
    connection: Connection,
    execution_id: str,
    path: str,
    *,
    owner: str,
    want: str,
    transactional: bool,
    timeout: float | None,
) -> tuple[Claim, Facts] | None:
    """Take a ready step; None means that it is not ready, is halted, or the execution is not in status `want`."""
    row = CLAIM.first(
        connection,
        {
            "execution": execution_id,
            "path": path,
            "owner": owner,
            "want": want,
            "transactional": transactional,
            "timeout": timeout,
        },
    )
    return None if row is None else taken(row, execution_id, path, owner)


def taken(row: Sequence[Any], execution_id: str, path: str, owner: str) -> tuple[Claim, Facts]:
    """A row of CLAIM as a claim, and what its activity may know."""
    held = Claim(execution_id=execution_id, path=path, attempt=row[0], owner=owner, failures=row[1])
    return held, Facts(tenant=row[2], input=row[3], correlation_id=row[4], labels=row[5])


def settle_and_claim(
    connection: Connection,
    held: Claim,
    output: str,
    *,
    following: str,
    queue: str,
    transactional: bool,
    timeout: float | None,
) -> Settled | None:
    """Record success and claim the only successor; None means fenced, and nothing was written."""
    row = SETTLE_AND_CLAIM.first(
        connection,
        {
            **held.token(),
            "output": output,
            "next": following,
            "queue": queue,
            "transactional": transactional,
            "timeout": timeout,
        },
    )
    return None if row is None or row[0] is None else Settled(halted=row[0], claimed=row[1])


def settle_and_spread(connection: Connection, held: Claim, output: str, *, successors: str) -> Settled | None:
    """Record success and insert the successors' rows (a JSON array of them); None means fenced."""
    row = SETTLE_AND_SPREAD.first(connection, {**held.token(), "output": output, "successors": successors})
    return None if row is None or row[0] is None else Settled(halted=row[0], ready=tuple(row[1] or ()))


def settle_and_finish(connection: Connection, held: Claim, output: str, *, result: str) -> Settled | None:
    """Record success of a last step, and `result` as the execution's output if it was the last; None means fenced."""
    row = SETTLE_AND_FINISH.first(connection, {**held.token(), "output": output, "result": result})
    return None if row is None or row[0] is None else Settled(halted=row[0], finished=row[1])


def settle_retry(connection: Connection, held: Claim, error: str, *, delay: float, want: str) -> Settled | None:
    """Record a failed attempt, to be followed by another `delay` seconds later; None means fenced."""
    row = SETTLE_RETRY.first(connection, {**held.token(), "error": error, "delay": delay, "want": want})
    return None if row is None else Settled(halted=row[0], status=row[1])


def settle_failed(connection: Connection, held: Claim, error: str, *, outcome: str) -> Settled | None:
    """Record that a step has failed for good (`failed` or `timed_out`) and flag its execution; None means fenced."""
    row = SETTLE_FAILED.first(connection, {**held.token(), "error": error, "outcome": outcome})
    return None if row is None else Settled(halted=row[0], status=row[1])


def settle_undo(
    connection: Connection, held: Claim, *, outcome: str, output: str | None, error: str | None
) -> Settled | None:
    """Record how a compensation ended (`succeeded` or `failed`) and ready the next; None means fenced."""
    row = SETTLE_UNDO.first(connection, {**held.token(), "outcome": outcome, "output": output, "error": error})
    return None if row is None or row[0] is None else Settled(halted=row[0], ready=tuple(row[1] or ()), finished=row[2])


def record_fenced(connection: Connection, held: Claim) -> None:
    """Note in the history that a late owner's result was dropped."""
    connection.execute(FENCED, held.token())
