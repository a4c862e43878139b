"""Machines: where they stand, the events that they accept, and the states that they enter.

An event is found to be allowed by reading, and accepted by one statement that asks again for everything that was read:
state, transition under way, events still to be taken. Of two senders at once one finds that the machine has moved, and
looks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim
from orchestrator.ledger.fragments import EVENTS, STILL_HELD, statement
from orchestrator.ledger.signals import KNOWN

STANDING = text(f"""
SELECT x.state, x.status, s.resume, (
    SELECT coalesce(jsonb_agg(g.leads_to ORDER BY g.created_at, g.id), '[]')
    FROM orchestrator.signal g WHERE g.execution_id = x.id AND g.moves AND NOT g.taken
), EXISTS (
    SELECT FROM orchestrator.signal g WHERE {KNOWN}
), x.inbox, EXISTS (SELECT FROM orchestrator.signal g WHERE g.id = CAST(:id AS uuid))
FROM orchestrator.execution x LEFT JOIN orchestrator.step s ON s.execution_id = x.id AND s.path = 'machine'
WHERE x.id = :execution
""")

#: Accepts an event for a machine, if it still stands as it was when the event was found to be allowed.
ACCEPT = text("""
WITH x AS (
    -- Counted on the row that senders meet at: a second one waits for it, and then finds another number. A count of the
    -- signals themselves would come from the snapshot before the wait.
    UPDATE orchestrator.execution SET inbox = inbox + 1
    WHERE id = :execution AND status = 'running' AND state IS NOT DISTINCT FROM :state AND inbox = :inbox
    RETURNING id, tenant
), s AS (
    INSERT INTO orchestrator.signal (id, tenant, execution_id, name, dedup_id, payload, actor, roles, moves, leads_to)
    SELECT :id, x.tenant, x.id, :name, :dedup, CAST(:payload AS jsonb), :actor, CAST(:roles AS jsonb), true, :leads_to
    FROM x JOIN orchestrator.step m ON m.execution_id = x.id AND m.path = 'machine'
    WHERE CAST(m.resume ->> 'seq' AS int) = :seq
      AND coalesce(m.resume ->> 'to', m.resume ->> 'leads_to') IS NOT DISTINCT FROM CAST(:doing AS text)
    ON CONFLICT DO NOTHING RETURNING id, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT :execution, tenant, 'event_accepted', jsonb_strip_nulls(jsonb_build_object(
           'signal', id, 'name', CAST(:name AS text), 'actor', CAST(:actor AS text))) FROM s
)
SELECT coalesce((SELECT id FROM s), (SELECT id FROM orchestrator.signal WHERE id = :id))
""")

#: Enters a state, under the claim of the machine's step, which stays.
ENTER = statement(f"""
WITH d AS (
    UPDATE orchestrator.step SET resume = CAST(:resume AS jsonb), woken_by = NULL, error = NULL
    WHERE {STILL_HELD} RETURNING tenant
), x AS (
    UPDATE orchestrator.execution SET state = :state FROM d WHERE id = :execution RETURNING id
), e AS ({EVENTS}
    SELECT CAST(:execution AS uuid), tenant, 'state_entered', CAST(:path AS text), CAST(:attempt AS int),
           jsonb_build_object('state', CAST(:state AS text)) || CAST(:data AS jsonb) FROM d
)
SELECT 1 FROM d
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A machine at a moment."""

    state: str | None
    #: Of the execution.
    status: str
    #: Transitions so far, and the state that the one under way leads to.
    seq: int
    doing: str | None
    #: Whether it has begun at all.
    begun: bool
    #: States that the events accepted and not yet taken are to lead to, in their order.
    pending: tuple[str, ...]
    #: Whether the sender's id is known.
    known: bool
    #: Events accepted so far.
    inbox: int
    #: Whether this very event was accepted, by a sending whose reply was lost.
    accepted: bool

    @property
    def expected(self) -> str | None:
        """The state that it will be in when the next event is taken, if all goes well."""
        return self.pending[-1] if self.pending else self.doing or self.state


def standing(
    connection: Connection, execution_id: str, name: str = "", dedup_id: str | None = None, signal_id: str | None = None
) -> Standing | None:
    """Where a machine stands, also towards an event; None when there is no such execution."""
    parameters = {"execution": execution_id, "name": name, "dedup": dedup_id, "id": signal_id}
    row = connection.execute(STANDING, parameters).first()
    if row is None:
        return None
    resume = row[2] or {}
    return Standing(
        state=row[0],
        status=row[1],
        seq=resume.get("seq", 0),
        # An event that was taken leads on before its transition is under way.
        doing=resume.get("to") or resume.get("leads_to"),
        begun="seq" in resume,
        pending=tuple(row[3]),
        known=row[4],
        inbox=row[5],
        accepted=row[6],
    )


def accept(connection: Connection, execution_id: str, seen: Standing, event: dict[str, Any]) -> bool:
    """Accept an event for a machine that stands as it was seen; False when it has moved meanwhile.

    Args:
        event: id, name, payload and roles (JSON texts), dedup, actor, leads_to.
    """
    parameters = {
        "execution": execution_id,
        "state": seen.state,
        "seq": seen.seq,
        "doing": seen.doing,
        "inbox": seen.inbox,
    }
    return connection.execute(ACCEPT, parameters | event).scalar() is not None


def enter(connection: Connection, held: Claim, *, state: str, resume: str, data: str) -> bool:
    """Record the state that a machine enters; False means fenced, and nothing was written.

    Args:
        resume: what the machine must remember, as JSON text.
        data: what the history says of it, a JSON object.
    """
    return ENTER.first(connection, {**held.token(), "state": state, "resume": resume, "data": data}) is not None
