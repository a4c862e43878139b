"""What an attempt says while it goes on, and what it is told in return: to go on, to end, or that it is none any more.

An attempt is unwanted when its row is halted and its execution is cancelled or has passed its deadline. Under any other
flag its result still counts: what it has done may have to be undone with what it returned.

Concurrency: each statement matches the claim's token, so a late owner is heard no more. A sweep that has found the
attempt overdue just before its heartbeat came may still end it, by the same token: then the next one finds no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim
from orchestrator.ledger.fragments import STILL_HELD

_FLAGGED = "x.status IN ('cancelling', 'timing_out')"
_UNWANTED = f"halt AND EXISTS (SELECT FROM orchestrator.execution x WHERE x.id = execution_id AND {_FLAGGED})"

#: Moves the time at which the attempt is overdue, but never past its timeout.
BEAT = text(f"""
UPDATE orchestrator.step SET progress = coalesce(CAST(:progress AS jsonb), progress),
       due_at = CASE WHEN CAST(:patience AS float8) IS NULL THEN due_at ELSE
           least(started_at + CAST(:timeout AS float8) * interval '1 second',
                 clock_timestamp() + CAST(:patience AS float8) * interval '1 second') END
WHERE {STILL_HELD} RETURNING {_UNWANTED}
""")

ASK = text(f"SELECT {_UNWANTED} FROM orchestrator.step WHERE {STILL_HELD}")

#: By the index of owners: as many rows as they have attempts.
HELD = text(f"""
SELECT s.execution_id, s.path, s.attempt, s.owner, s.failures,
       CAST(extract(epoch FROM s.due_at - s.started_at) AS float8) AS allowed, s.halt AND {_FLAGGED} AS unwanted
FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
WHERE s.status = 'running' AND s.owner = ANY(:owners)
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Underway:
    """An attempt that goes on."""

    held: Claim
    #: Seconds from its begin to the time at which it is overdue; None is never.
    allowed: float | None
    #: Its execution was cancelled, or has passed its deadline.
    unwanted: bool


def beat(
    connection: Connection, held: Claim, *, progress: str | None, timeout: float | None, patience: float | None
) -> bool | None:
    """Say that an attempt goes on; whether it is unwanted, None when its claim was lost.

    Args:
        progress: how far it is, JSON text; None leaves what was said before.
        timeout: seconds that it may take in all.
        patience: seconds within which it must be heard again.
    """
    parameters = {**held.token(), "progress": progress, "timeout": timeout, "patience": patience}
    row = connection.execute(BEAT, parameters).first()
    return None if row is None else bool(row[0])


def ask(connection: Connection, held: Claim) -> bool | None:
    """Whether an attempt is unwanted; None when its claim was lost."""
    row = connection.execute(ASK, held.token()).first()
    return None if row is None else bool(row[0])


def underway(connection: Connection, owners: Sequence[str]) -> list[Underway]:
    """The attempts of some owners."""
    return [
        Underway(
            held=Claim(
                execution_id=str(row.execution_id),
                path=row.path,
                attempt=row.attempt,
                owner=row.owner,
                failures=row.failures,
            ),
            allowed=row.allowed,
            unwanted=row.unwanted,
        )
        for row in connection.execute(HELD, {"owners": list(owners)})
    ]
