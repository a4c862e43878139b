"""What an operator does to an execution that goes on: cancel it, hold it still, let it go on, end a step by hand.

Each is one guarded statement with its event and its entry in the audit; of two operators at once, one wins and the
other is told. What follows (drain, undo, publishing) is `advance`'s, and a sweep's if the commander dies in between.

A pause halts nothing. What is ready stays so, and no claim takes it, as each asks for an execution that runs; whatever
is behind a step that settles meanwhile is made ready too (`fragments.LIVE`). So going on is one flag, and losing the
messages of that moment is like losing any: the sweep finds overtaken rows. A claim that was sent before the flag may
commit after it: `LOCK_OPEN` waits for it on the row that it claims, or that it settles to insert the next one. One that
has taken its snapshot before the flag, and has not come to its row yet, would not see the flag there either, and a row
that is locked for a while is no news to it; so once nothing runs `ANEW` writes what it might claim anew, as rows that
no such snapshot shows. What a new snapshot then shows running was all there can be.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.fragments import EVENTS, SUCCESSORS
from orchestrator.ledger.tables import OPEN
from orchestrator.model.identity import new_id

#: Among the parameters of an entry in the audit.
COMMAND_ID = "command_id"


@dataclass(frozen=True, kw_only=True, slots=True)
class By:
    """Who commands, and why: for the history and the audit."""

    actor: str
    reason: str | None = None
    #: The command's own, by which it finds its entry in the audit when the answer to it was lost.
    id: str = field(default_factory=lambda: str(new_id()))

    def parameters(self, **also: Any) -> dict[str, Any]:
        """What the statements take."""
        return {"actor": self.actor, "reason": self.reason, "parameters": json.dumps(also | {COMMAND_ID: self.id})}


def audited(command: str, source: str = "x", path: str = "NULL") -> str:
    """The entry of a command in the audit for each row of `source` (id, tenant); none for one without an actor."""
    return f"""
        INSERT INTO orchestrator.audit (tenant, actor, command, execution_id, path, reason, parameters)
        SELECT tenant, CAST(:actor AS text), '{command}', id, {path}, CAST(:reason AS text), CAST(:parameters AS jsonb)
        FROM {source} WHERE CAST(:actor AS text) IS NOT NULL
    """


#: Who did it, as part of an event's data.
BY = "jsonb_strip_nulls(jsonb_build_object('actor', CAST(:actor AS text), 'reason', CAST(:reason AS text)))"

CARRIED_OUT = text(f"""
SELECT count(*) > 0 FROM orchestrator.audit
WHERE execution_id = :execution AND parameters ->> '{COMMAND_ID}' = :command
""")

#: Flags an execution: it starts nothing more, and its running attempts drain. Children that go on alone have no parent.
#: A child is not cancelled for its parent while the step goes on that has started it: whoever cancels has looked at
#: the parent earlier, and that may have ended, and been taken up again.
CANCEL = text(f"""
WITH x AS (
    UPDATE orchestrator.execution e SET status = 'cancelling', paused_at = NULL,
           rollback = e.rollback AND coalesce(CAST(:undo AS boolean), d.spec ->> 'on_cancel' IS DISTINCT FROM 'stop'),
           error = jsonb_build_object('category', 'cancelled', 'name', 'Cancelled', 'message',
                                      coalesce(CAST(:reason AS text), 'cancelled by ' || CAST(:actor AS text)))
    FROM orchestrator.definition d
    WHERE d.id = e.definition_id AND e.id = :execution AND e.status IN ('created', 'running', 'pausing', 'paused')
      AND (CAST(:parent AS uuid) IS NULL OR e.parent_id = CAST(:parent AS uuid))
      AND (CAST(:awaited AS boolean) OR NOT EXISTS (
          SELECT FROM orchestrator.step s
          WHERE s.execution_id = e.parent_id AND s.path = e.parent_path AND s.{OPEN} AND NOT s.halt))
    RETURNING e.id, e.tenant, e.error
), c AS (
    UPDATE orchestrator.execution SET parent_id = NULL, parent_path = NULL FROM x
    WHERE CAST(:detach AS boolean) AND execution.parent_id = x.id AND execution.settled_at IS NULL
), a AS ({audited("cancel")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_cancelling', jsonb_build_object('error', error) || {BY} FROM x
)
SELECT id FROM x
""")

PAUSE = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET status = 'pausing', paused_at = clock_timestamp()
    WHERE id = :execution AND status = 'running' RETURNING id, tenant
), a AS ({audited("pause")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_pausing', {BY} FROM x
)
SELECT id FROM x
""")

RUNNING = text("SELECT FROM orchestrator.step WHERE execution_id = :execution AND status = 'running' LIMIT 1")

LOCK_OPEN = text(f"""
SELECT count(*) FROM (SELECT FROM orchestrator.step WHERE execution_id = :execution AND {OPEN} FOR UPDATE) s
""")

#: Who finds a row gone at that moment leaves it alone, as if another had been first; sweeps take up what that misses,
#: and whoever ends a step by hand looks once more.
ANEW = text("""
WITH gone AS (
    DELETE FROM orchestrator.step s USING orchestrator.execution x
    WHERE x.id = :execution AND x.status = 'pausing' AND s.execution_id = :execution
      AND s.status IN ('ready', 'retrying') AND NOT s.halt AND NOT EXISTS (
          SELECT FROM orchestrator.step WHERE execution_id = :execution AND status = 'running')
    RETURNING s.*
)
INSERT INTO orchestrator.step SELECT * FROM gone
""")

#: A child that is started when its parent's children have been paused already.
PAUSE_WITH_PARENT = text("""
WITH x AS (
    UPDATE orchestrator.execution c SET status = 'pausing', paused_at = clock_timestamp()
    FROM orchestrator.execution p
    WHERE c.id = :execution AND c.status = 'running' AND p.id = c.parent_id AND p.status IN ('pausing', 'paused')
    RETURNING c.id, c.tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_pausing', jsonb_build_object('reason', 'its parent is paused') FROM x
)
SELECT id FROM x
""")

#: Of a failed execution that would be retried by itself: it is not. Its parent may be told now.
CALL_OFF = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET retry_at = NULL
    WHERE id = :execution AND status = 'failed' AND retry_at IS NOT NULL RETURNING id, tenant
), a AS ({audited("cancel")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_retry_called_off', {BY} FROM x
)
SELECT id FROM x
""")

PAUSED = text("""
WITH x AS (
    UPDATE orchestrator.execution SET status = 'paused'
    WHERE id = :execution AND status = 'pausing' AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = :execution AND status = 'running')
    RETURNING id, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type) SELECT id, tenant, 'execution_paused' FROM x
)
SELECT id FROM x
""")

#: The deadline moves by as long as it stood still. A step that failed for good meanwhile fails it now.
RESUME = text(f"""
WITH x AS (
    UPDATE orchestrator.execution SET status = CASE WHEN error IS NULL THEN 'running' ELSE 'failing' END,
           deadline = deadline + (clock_timestamp() - paused_at), paused_at = NULL
    WHERE id = :execution AND status IN ('pausing', 'paused') RETURNING id, tenant, status, error
), s AS (
    -- What was ready has not been passed over by anybody meanwhile.
    UPDATE orchestrator.step SET ready_at = clock_timestamp(), ready_xid = pg_current_xact_id() FROM x
    WHERE execution_id = x.id AND step.status = 'ready'
), a AS ({audited("resume")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_' || status, jsonb_strip_nulls(jsonb_build_object('error', error)) || {BY} FROM x
)
SELECT id FROM x
""")

#: What waits for its next attempt need not any more: the sweep of what is due takes it up.
HURRY = text(f"""
WITH s AS (
    UPDATE orchestrator.step SET due_at = clock_timestamp()
    WHERE execution_id = :execution AND status = 'retrying' AND NOT halt AND due_at > clock_timestamp()
    RETURNING path
), x AS (
    SELECT id, tenant FROM orchestrator.execution WHERE id = :execution AND EXISTS (SELECT FROM s)
), a AS ({audited("retry")})
SELECT count(*) FROM s
""")

#: Ends a step that nobody works on, in its place and with its successors. `seen` and `stood` are the attempt and the
#: status that were looked at: a signal that has woken it meanwhile would be lost, with nobody the wiser.
COMPLETE = text(f"""
WITH d AS (
    UPDATE orchestrator.step s SET status = 'succeeded', output = CAST(:output AS jsonb), error = NULL,
           exit = CAST(:exit AS text), settled_at = clock_timestamp(), ready_xid = NULL, due_at = NULL, awaits = NULL,
           wait_name = NULL, correlation = NULL, woken_by = NULL, resume = NULL
    FROM orchestrator.execution x
    WHERE x.id = s.execution_id AND x.status IN ('running', 'pausing', 'paused') AND s.execution_id = :execution
      AND s.path = :path AND s.status IN ('ready', 'waiting', 'retrying') AND NOT s.halt AND s.undoes IS NULL
      AND s.attempt = :seen AND s.status = :stood AND coalesce(s.awaits, '') NOT IN ('body', 'child', 'event', 'undo')
    RETURNING s.execution_id AS id, s.tenant, s.halt, s.output
), n AS ({SUCCESSORS}), a AS ({audited("complete", "d", ":path")}), e AS ({EVENTS}
    SELECT id, tenant, 'step_succeeded', CAST(:path AS text), CAST(NULL AS int),
           jsonb_build_object('output', output) || {BY} FROM d
    UNION ALL SELECT CAST(:execution AS uuid), tenant, 'step_' || status, path, NULL, NULL FROM n
)
SELECT (SELECT id FROM d), (SELECT array_agg(path ORDER BY path) FROM n WHERE status = 'ready')
""")


def cancel(
    connection: Connection,
    execution_id: str,
    reason: str | None,
    *,
    by: By | None = None,
    undo: bool | None = None,
    detach: bool = False,
    awaited: bool = True,
    parent: str | None = None,
) -> bool:
    """Flag an execution as cancelling; False when it does not go forward any more.

    Args:
        by: who commands it; None for what the engine does itself.
        undo: whether what was done is undone; None as the definition says.
        detach: let its children go on without it.
        awaited: also a child whose step goes on.
        parent: only as long as it is a child of this one, and has not been let go on alone.
    """
    also = {key: value for key, value in {"compensate": undo, "children": not detach}.items() if value is not None}
    said = {"actor": None, "parameters": "{}"} if by is None else by.parameters(**also)
    parameters = said | {"execution": execution_id, "reason": reason, "undo": undo, "detach": detach}
    parameters |= {"awaited": awaited, "parent": parent}
    return connection.execute(CANCEL, parameters).first() is not None


def carried_out(connection: Connection, execution_id: str, by: By) -> bool:
    """Whether a command has taken effect on an execution."""
    return bool(connection.execute(CARRIED_OUT, {"execution": execution_id, "command": by.id}).scalar_one())


def pause(connection: Connection, execution_id: str, by: By) -> bool:
    """Let an execution start nothing more; False when it does not run. `settle_pause` follows."""
    return connection.execute(PAUSE, {"execution": execution_id, **by.parameters()}).first() is not None


def pause_with_parent(connection: Connection, execution_id: str) -> bool:
    """Hold a child still that has just been started, if its parent stands still; whether it does."""
    return connection.execute(PAUSE_WITH_PARENT, {"execution": execution_id}).first() is not None


def call_off(connection: Connection, execution_id: str, by: By) -> bool:
    """Let a failed execution not be retried by itself; False when it would not be anyway."""
    return connection.execute(CALL_OFF, {"execution": execution_id, **by.parameters()}).first() is not None


def settle_pause(connection: Connection, execution_id: str) -> bool:
    """Note that nothing of a pausing execution runs any more; False while something does."""
    if connection.execute(RUNNING, {"execution": execution_id}).first() is not None:
        return False
    connection.execute(LOCK_OPEN, {"execution": execution_id})
    connection.execute(ANEW, {"execution": execution_id})
    return connection.execute(PAUSED, {"execution": execution_id}).first() is not None


def resume(connection: Connection, execution_id: str, by: By) -> bool:
    """Let a paused execution go on; False when it is not paused. What is ready is to be published."""
    return connection.execute(RESUME, {"execution": execution_id, **by.parameters()}).first() is not None


def hurry(connection: Connection, execution_id: str, by: By) -> int:
    """Let the steps of an execution that wait for their next attempt make it now; how many there are."""
    return int(connection.execute(HURRY, {"execution": execution_id, **by.parameters()}).scalar_one())


def complete(
    connection: Connection,
    execution_id: str,
    path: str,
    output: str,
    *,
    seen: int,
    stood: str,
    successors: str,
    by: By,
    exit_by: str | None = None,
) -> list[str] | None:
    """End a step by hand, with an output (JSON text); the paths made ready, or None when it is not as it was seen.

    Args:
        seen: the attempt that it stood at.
        stood: the status that it had.
        successors: rows to insert, a JSON array.
        exit_by: the exit that it ends by; None is the ordinary one.
    """
    row = connection.execute(
        COMPLETE,
        {
            "execution": execution_id,
            "path": path,
            "output": output,
            "seen": seen,
            "stood": stood,
            "successors": successors,
            "exit": exit_by,
            **by.parameters(),
        },
    ).one()
    return None if row[0] is None else list(row[1] or ())
