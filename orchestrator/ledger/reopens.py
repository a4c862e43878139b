"""Taking an execution up again that has ended: what failed is ready once more, and everything done is kept.

The execution is final when it is looked at: nothing of it runs, and its rows change no more, but for another operator.
So the rows to change are worked out from a snapshot (compiler/reopen.py), and one statement carries all of it out if
the execution still is what it was (`seen`, the moment at which it ended).

What a child's parent was when it was looked at, that statement asks again, of a row that it locks first: either whoever
flags the parent waits, and finds the child open when they cancel what it has started, or the child stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.controls import BY, By, audited
from orchestrator.ledger.fragments import inserted
from orchestrator.ledger.schema import sql_list
from orchestrator.model.reopened import Reopened, Row
from orchestrator.model.state import BACKWARD_EXECUTIONS, StepStatus

STANDING = text("""
SELECT definition_id, tenant, status, settled_at, parent_id, parent_path, input, purged_at
FROM orchestrator.execution WHERE id = :execution
""")

#: Read by many rows at a time: a loop may have left very many.
ROWS = text("""
SELECT path, status, exit, error ->> 'category', error ->> 'name', was, was_due_at, awaits, woken_by,
       resume IS NOT NULL, attempt, undoes, parents, resume ->> 'inner'
FROM orchestrator.step WHERE execution_id = :execution ORDER BY path
""")

_REOPENED = """
    UPDATE orchestrator.step s SET status = r.status, halt = false, failures = 0, crashes = 0, failing_since = NULL,
           owner = NULL, was = NULL, was_due_at = NULL, exit = r.exit,
           error = CASE WHEN r.woken_by = 'broken' THEN s.error END,
           -- jsonb_to_recordset makes a JSON null an SQL one.
           output = CASE r.status WHEN 'succeeded' THEN coalesce(r.output, 'null'::jsonb) END,
           ready_xid = CASE r.status WHEN 'ready' THEN pg_current_xact_id() END,
           ready_at = clock_timestamp(), due_at = r.due_at, awaits = r.awaits,
           wait_name = CASE WHEN r.awaits = 'child' THEN r.wait_name WHEN r.awaits IS NOT NULL THEN s.wait_name END,
           woken_by = r.woken_by, resume = CASE WHEN r.fresh THEN r.resume ELSE s.resume END,
           parents = coalesce(r.parents, s.parents),
           settled_at = CASE r.status WHEN 'succeeded' THEN clock_timestamp() END
    FROM x, jsonb_to_recordset(CAST(:reopened AS jsonb)) AS r(path text, status text, exit text, output jsonb,
         due_at timestamptz, awaits text, wait_name text, woken_by text, fresh boolean, resume jsonb, parents jsonb)
    WHERE s.execution_id = x.id AND s.path = r.path AND s.settled_at IS NOT NULL
    RETURNING s.path, s.status, s.tenant, s.output
"""

#: The deadline counts anew, as long as it was at first; but no child outlives its parent, which may go on behind it.
RETRY = text(f"""
WITH p AS MATERIALIZED (
    SELECT p.settled_at, p.deadline, p.allowance FROM orchestrator.execution c
    JOIN orchestrator.execution p ON p.id = c.parent_id
    WHERE c.id = :execution AND p.purged_at IS NULL AND p.status NOT IN ({sql_list(BACKWARD_EXECUTIONS)})
    FOR SHARE OF p
), w AS MATERIALIZED (
    SELECT s.path FROM orchestrator.execution c
    JOIN orchestrator.step s ON s.execution_id = c.parent_id AND s.path = c.parent_path
    WHERE CAST(:awaited AS boolean) AND c.id = :execution
      AND s.status = 'waiting' AND s.wait_name = c.id::text AND NOT s.halt
    FOR SHARE OF s
), x AS (
    UPDATE orchestrator.execution SET status = 'running', settled_at = NULL, error = NULL, output = NULL,
           rollback = true, retry_at = NULL, retries = retries + CAST(:by_itself AS int),
           input = coalesce(CAST(:input AS jsonb), input),
           deadline = least(clock_timestamp() + allowance * interval '1 second', (
               SELECT CASE WHEN p.settled_at IS NULL THEN p.deadline
                           ELSE clock_timestamp() + p.allowance * interval '1 second' END FROM p))
    WHERE id = :execution AND status IN ('failed', 'cancelled', 'timed_out') AND settled_at = :seen
      -- An operator may have called off what was due.
      AND (CAST(:by_itself AS int) = 0 OR retry_at IS NOT NULL)
      AND purged_at IS NULL AND (parent_id IS NULL OR EXISTS (SELECT FROM p)
                                                      AND (NOT CAST(:awaited AS boolean) OR EXISTS (SELECT FROM w)))
    RETURNING id, tenant, false AS halt
), u AS ({_REOPENED}), d AS (SELECT tenant, halt FROM x), n AS (
    {inserted("CAST(:successors AS jsonb)")} ON CONFLICT DO NOTHING RETURNING path, status, tenant
), a AS (
    INSERT INTO orchestrator.audit (tenant, actor, command, execution_id, path, reason, parameters)
    SELECT tenant, CAST(:actor AS text), CAST(:command AS text), id, CAST(:path AS text), CAST(:reason AS text),
           CAST(:parameters AS jsonb) FROM x
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT id, tenant, 'execution_running', NULL, {BY} || jsonb_build_object('command', CAST(:command AS text)) FROM x
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path,
                     CASE status WHEN 'succeeded' THEN jsonb_build_object('output', output) || {BY} END FROM u
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL FROM n
)
SELECT id FROM x
""")

#: Compensations that have failed, once more; they are blocked one behind the other, as at first.
UNDO_AGAIN = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET status = 'compensating', settled_at = NULL
    WHERE id = :execution AND status = 'compensation_failed' AND settled_at = :seen AND purged_at IS NULL
      AND jsonb_array_length(CAST(:reopened AS jsonb)) > 0
    RETURNING id, tenant
), u AS ({_REOPENED}), a AS ({audited("compensate")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT id, tenant, 'execution_compensating', NULL, {BY} FROM x
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL FROM u
)
SELECT id FROM x
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How an execution stands, as far as a command must know."""

    definition_id: str
    tenant: str
    status: str
    #: When it ended; the same moment in a statement's guard means that nobody took it up meanwhile.
    settled_at: datetime | None
    parent: tuple[str, str] | None
    input: Any
    #: When it was purged: then nothing is left of it to go on from.
    purged_at: datetime | None = None


def standing(connection: Connection, execution_id: str) -> Standing | None:
    """How an execution stands; None when there is none."""
    row = connection.execute(STANDING, {"execution": execution_id}).first()
    if row is None:
        return None
    return Standing(
        definition_id=str(row[0]),
        tenant=row[1],
        status=row[2],
        settled_at=row[3],
        parent=None if row[4] is None else (str(row[4]), row[5]),
        input=row[6],
        purged_at=row[7],
    )


def rows(connection: Connection, execution_id: str) -> list[Row]:
    """Every step and compensation of an execution."""
    return [Row(*found) for found in connection.execute(ROWS, {"execution": execution_id})]


def retry(
    connection: Connection,
    execution_id: str,
    *,
    seen: datetime | None,
    command: str,
    reopened: Sequence[Reopened],
    successors: Sequence[Mapping[str, Any]],
    by: By,
    path: str | None = None,
    value: str | None = None,
    by_itself: bool = False,
    awaited: bool = False,
) -> bool:
    """Let an ended execution go on; False when it is not as it was seen, or its parent goes back.

    Args:
        seen: when it had ended.
        command: `retry` or `skip`, for the audit.
        reopened: rows to change.
        successors: rows that are missing behind what is done.
        value: another input, as JSON text.
        by_itself: no operator's doing, but the definition's.
        awaited: a child only while the step waits for it that has started it.
    """
    parameters = {
        "execution": execution_id,
        "seen": seen,
        "command": command,
        "reopened": _records(reopened),
        "successors": json.dumps(list(successors)),
        "path": path,
        "input": value,
        "by_itself": int(by_itself),
        "awaited": awaited,
        **by.parameters(**({} if value is None else {"input": True})),
    }
    return connection.execute(RETRY, parameters).first() is not None


def undo_again(
    connection: Connection, execution_id: str, *, seen: datetime | None, reopened: Sequence[Reopened], by: By
) -> bool:
    """Make compensations that have failed ready once more; False when the execution is not as it was seen."""
    parameters = {"execution": execution_id, "seen": seen, "reopened": _records(reopened), **by.parameters()}
    return connection.execute(UNDO_AGAIN, parameters).first() is not None


def _records(reopened: Sequence[Reopened]) -> str:
    return "[" + ",".join(_record(each) for each in reopened) + "]"


def _record(each: Reopened) -> str:
    record = dict(_fields(each))
    text_of_it = json.dumps(record)
    # An output is JSON already, and is pasted.
    return text_of_it if each.output is None else f'{text_of_it[:-1]}, "output": {each.output}}}'


def _fields(each: Reopened) -> Iterator[tuple[str, Any]]:
    yield "path", each.path
    yield "status", StepStatus(each.status)
    yield "exit", each.exit
    yield "due_at", None if each.due_at is None else each.due_at.isoformat()
    yield "awaits", each.awaits
    yield "wait_name", each.wait_name
    yield "woken_by", each.woken_by
    yield "fresh", each.fresh
    yield "resume", each.resume
    yield "parents", None if each.parents is None else list(each.parents)
