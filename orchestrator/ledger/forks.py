"""A new execution that begins in the middle of another: what was done before is copied, not done again.

Copied steps count as never attempted: whatever they did belongs to the execution that did it, and the fork does not
undo it. The old execution is only read; it is final, so its rows stand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.controls import BY, By
from orchestrator.ledger.fragments import inserted

FORK = text(f"""
WITH x AS (
    INSERT INTO orchestrator.execution (id, tenant, definition_id, definition_name, definition_version, status, input,
        input_hash, correlation_id, labels, actor, allowance, deadline, forked_from)
    SELECT CAST(:execution AS uuid), tenant, definition_id, definition_name, definition_version, 'running',
           coalesce(CAST(:input AS jsonb), input), input_hash, correlation_id, labels, :actor,
           allowance, clock_timestamp() + allowance * interval '1 second', id
    FROM orchestrator.execution WHERE id = :origin AND settled_at = :seen AND purged_at IS NULL
    ON CONFLICT DO NOTHING RETURNING id, tenant, forked_from, false AS halt
), k AS (
    INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, parents, edges, need, ready_at,
                                   started_at, settled_at, output, error, exit, resume)
    SELECT x.id, s.path, s.tenant, s.status, s.queue, s.parents, s.edges, s.need, s.ready_at, s.started_at,
           s.settled_at, s.output, s.error, s.exit, s.resume
    FROM x JOIN orchestrator.step s ON s.execution_id = x.forked_from
    WHERE s.path = ANY(CAST(:kept AS text[]))
    RETURNING path, status, tenant, output, error
), d AS (SELECT tenant, halt FROM x), n AS (
    {inserted("CAST(:successors AS jsonb)")} ON CONFLICT DO NOTHING RETURNING path, status, tenant
), a AS (
    INSERT INTO orchestrator.audit (tenant, actor, command, execution_id, path, reason, parameters)
    SELECT tenant, CAST(:actor AS text), 'fork', forked_from, CAST(:path AS text), CAST(:reason AS text),
           jsonb_build_object('fork', id) FROM x
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, data)
    SELECT id, tenant, 'execution_running', NULL, {BY} || jsonb_build_object('forked_from', forked_from) FROM x
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path,
                     jsonb_build_object('output', output, 'copied', true)
                     || CASE WHEN error IS NULL THEN '{{}}' ELSE jsonb_build_object('error', error) END FROM k
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL FROM n
)
SELECT id FROM x
""")


#: A fork whose reply was lost is sent again under the same id, and finds its own row.
MADE = text("SELECT FROM orchestrator.execution WHERE id = :execution AND forked_from = :origin")


def made(connection: Connection, execution_id: str, *, origin: str) -> bool:
    """Whether a fork of an execution was inserted under an id."""
    return connection.execute(MADE, {"execution": execution_id, "origin": origin}).first() is not None


def fork(
    connection: Connection,
    execution_id: str,
    *,
    origin: str,
    seen: object,
    path: str,
    kept: Sequence[str],
    successors: Sequence[Mapping[str, Any]],
    value: str | None,
    by: By,
) -> bool:
    """Insert the new execution; False when the old one is not as it was seen, or this was inserted already.

    Args:
        execution_id: of the new one.
        origin, seen: the old one, and when it ended.
        kept: paths to copy.
        successors: rows that are to be done, a JSON array.
        value: another input, as JSON text.
    """
    parameters = {
        "execution": execution_id,
        "origin": origin,
        "seen": seen,
        "path": path,
        "kept": list(kept),
        "successors": json.dumps(list(successors)),
        "input": value,
        "actor": by.actor,
        "reason": by.reason,
    }
    return connection.execute(FORK, parameters).first() is not None
