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

from orchestrator.ledger.fragments import EVENTS, SUCCEED, SUCCEEDED_EVENT, SUCCESSORS, statement
from orchestrator.ledger.schema import sql_list
from orchestrator.model.exits import UNMET
from orchestrator.model.identity import undone_path
from orchestrator.model.state import UNDOING


@dataclass(frozen=True, kw_only=True, slots=True)
class Woken:
    """What a claim finds on a step that was let go of before, or that can only fail."""

    #: Its join can never be met.
    unmet: bool
    resume: Any
    #: due, body, child, signal or broken.
    by: str | None
    error: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The right to work on one attempt of a step; attempt and owner are its fencing token."""

    execution_id: str
    path: str
    attempt: int
    owner: str
    #: Failed attempts so far: the retry budget that is used up.
    failures: int = 0
    #: Why a step was woken that had been waiting, and what it has to remember; None for all others.
    woken: Woken | None = None

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
    #: The execution whose step waits for this one's end.
    parent_id: str | None = None


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


#: A ready step becomes running for one owner, if its execution is in one of the statuses in which it may.
_CLAIM = f"""
WITH c AS (
    UPDATE orchestrator.step s SET status = 'running', attempt = s.attempt + 1, owner = :owner,
           transactional = :transactional, ready_xid = NULL, started_at = clock_timestamp(),
           due_at = clock_timestamp() + CAST(:timeout AS float8) * interval '1 second'
    FROM orchestrator.execution x
    WHERE s.execution_id = :execution AND s.path = :path AND s.status = 'ready' AND NOT s.halt
      AND x.id = s.execution_id AND x.status IN (<statuses>)
    RETURNING s.attempt, s.failures, x.tenant, x.input, x.correlation_id, x.labels, x.parent_id,
              s.exit, s.resume, s.woken_by, s.error
), e AS ({EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'step_started', :path, attempt,
           jsonb_build_object('owner', CAST(:owner AS text)) FROM c
)
SELECT attempt, failures, tenant, input, correlation_id, labels, parent_id, exit, resume, woken_by, error FROM c
"""
CLAIM = statement(_CLAIM.replace("<statuses>", "'running'"))
#: A compensation has a row only once nothing that it takes back can go on: with the whole execution, or with a part of
#: one that goes on. A part that has begun to go back does so to the end, whatever the execution comes to meanwhile.
CLAIM_UNDO = statement(_CLAIM.replace("<statuses>", sql_list(UNDOING)))

#: Ends a step and goes on with its only successor in one statement. The successor's row does not exist yet: if it
#: does, or the execution was flagged, nothing is claimed and the caller goes the long way. Of a paused execution it is
#: made ready, for whenever that is resumed.
SETTLE_AND_CLAIM = statement(f"""
WITH d AS ({SUCCEED}),
c AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, attempt, owner, queue, transactional, ready_xid,
                                   ready_at, started_at, due_at)
    SELECT :execution, :next, d.tenant, CASE WHEN x.live THEN 'running' ELSE 'ready' END,
           CASE WHEN x.live THEN 1 ELSE 0 END, CASE WHEN x.live THEN :owner END, :queue, :transactional,
           CASE WHEN NOT x.live THEN pg_current_xact_id() END, clock_timestamp(),
           CASE WHEN x.live THEN clock_timestamp() END,
           CASE WHEN x.live THEN clock_timestamp() + CAST(:timeout AS float8) * interval '1 second' END
    FROM d, (SELECT status = 'running' AS live FROM orchestrator.execution
             WHERE id = :execution AND (status = 'running' OR status IN ('pausing', 'paused') AND error IS NULL)) x
    WHERE NOT d.halt
    ON CONFLICT DO NOTHING RETURNING tenant, owner IS NOT NULL AS claimed
), e AS ({EVENTS} {SUCCEEDED_EVENT}
    UNION ALL
    SELECT CAST(:execution AS uuid), tenant, CASE WHEN claimed THEN 'step_started' ELSE 'step_ready' END, :next,
           CASE WHEN claimed THEN 1 END,
           CASE WHEN claimed THEN jsonb_build_object('owner', CAST(:owner AS text)) END
    FROM c
)
SELECT (SELECT halt FROM d) AS halt, EXISTS (SELECT FROM c WHERE claimed) AS claimed
""")

#: Ends a step and inserts its successors.
SETTLE_AND_SPREAD = statement(f"""
WITH d AS ({SUCCEED}),
n AS ({SUCCESSORS}), e AS ({EVENTS} {SUCCEEDED_EVENT}
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL, NULL FROM n
)
SELECT (SELECT halt FROM d) AS halt, (SELECT array_agg(path ORDER BY path) FROM n WHERE status = 'ready') AS ready
""")

#: Ends a last step, and with it the execution if no other open row is visible. Two last steps that do not see each
#: other leave it to `executions.FINISH`, which each calls after its commit.
SETTLE_AND_FINISH = statement(f"""
WITH d AS ({SUCCEED}),
x AS (
    UPDATE orchestrator.execution SET status = 'succeeded', output = CAST(:result AS jsonb),
           settled_at = clock_timestamp()
    FROM d
    WHERE id = :execution AND status = 'running' AND NOT d.halt AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND path <> :path AND <open>)
    RETURNING execution.tenant, execution.status, execution.output
), e AS ({EVENTS} {SUCCEEDED_EVENT}
    UNION ALL
    SELECT CAST(:execution AS uuid), tenant, 'execution_' || status, NULL, NULL, jsonb_build_object('output', output)
    FROM x
)
SELECT (SELECT halt FROM d) AS halt, (SELECT status FROM x) AS finished
""")

#: A late owner's result was dropped: kept for whoever asks why.
FENCED = text(f"""
{EVENTS} SELECT :execution, tenant, 'attempt_fenced', :path, :attempt,
       jsonb_build_object('owner', CAST(:owner AS text))
FROM orchestrator.execution WHERE id = :execution
""")


def claim(
    connection: Connection,
    execution_id: str,
    path: str,
    *,
    owner: str,
    transactional: bool,
    timeout: float | None,
) -> tuple[Claim, Facts] | None:
    """Take a ready step or compensation; None: it is not ready, is halted, or its execution does not go that way."""
    row = (CLAIM if undone_path(path) is None else CLAIM_UNDO).first(
        connection,
        {
            "execution": execution_id,
            "path": path,
            "owner": owner,
            "transactional": transactional,
            "timeout": timeout,
        },
    )
    return None if row is None else taken(row, execution_id, path, owner)


def taken(row: Sequence[Any], execution_id: str, path: str, owner: str) -> tuple[Claim, Facts]:
    """A row of CLAIM as a claim, and what its activity may know."""
    attempt, failures, tenant, value, correlation_id, labels, parent_id, exit_by, resume, woken_by, error = row
    woken = None
    if exit_by is not None or resume is not None or woken_by is not None:
        woken = Woken(unmet=exit_by == UNMET, resume=resume, by=woken_by, error=error)
    held = Claim(execution_id=execution_id, path=path, attempt=attempt, owner=owner, failures=failures, woken=woken)
    parent = None if parent_id is None else str(parent_id)
    return held, Facts(tenant=tenant, input=value, correlation_id=correlation_id, labels=labels, parent_id=parent)


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
            "exit": None,
            "next": following,
            "queue": queue,
            "transactional": transactional,
            "timeout": timeout,
        },
    )
    return None if row is None or row[0] is None else Settled(halted=row[0], claimed=row[1])


def settle_and_spread(
    connection: Connection, held: Claim, output: str, *, successors: str, exit_by: str | None = None
) -> Settled | None:
    """Record success, by an exit, and insert the successors' rows (a JSON array of them); None means fenced."""
    row = SETTLE_AND_SPREAD.first(
        connection, {**held.token(), "output": output, "successors": successors, "exit": exit_by}
    )
    return None if row is None or row[0] is None else Settled(halted=row[0], ready=tuple(row[1] or ()))


def settle_and_finish(
    connection: Connection, held: Claim, output: str, *, result: str, exit_by: str | None = None
) -> Settled | None:
    """Record success of a last step, and `result` as the execution's output if it was the last; None means fenced."""
    row = SETTLE_AND_FINISH.first(connection, {**held.token(), "output": output, "result": result, "exit": exit_by})
    return None if row is None or row[0] is None else Settled(halted=row[0], finished=row[1])


def record_fenced(connection: Connection, held: Claim) -> None:
    """Note in the history that a late owner's result was dropped."""
    connection.execute(FENCED, held.token())
