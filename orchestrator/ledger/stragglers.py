"""Stragglers: attempts that go on though their step was settled without them.

Whoever loses a race is cancelled at once, so that the execution goes on without it; but its activity works on until it
is told, and what it does then is still to be undone if the execution goes back. So the statement that cancels it notes
who is at work (ledger/joins.py), and compensations begin only once nobody is (ledger/halts.py, undos.py, parks.py).

Who else can be here: the worker whose attempt it is, which says that it has ended; the sweep, when that worker is gone
or the attempt is past its time, as it is taken for ended everywhere then; and whoever turns the execution back. The
DELETE decides who of the first two goes on from there. Whoever turns back in the same moment may still see the note,
and does nothing; but then the note's end has still to look at the flag, which was committed before. One that dies
between the two leaves what the stalled sweep looks for.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim
from orchestrator.ledger.owners import GONE, LOST_CHILD

#: A process that outstays its attempt is killed by its node in less than so many seconds (runtime/watch.py).
_KILLED = "interval '10 seconds'"

#: Its worker has noted in the history that the attempt was fenced.
END = text("""
DELETE FROM orchestrator.straggler WHERE execution_id = :execution AND path = :path AND owner = :owner RETURNING path
""")

END_OWNERS = text("DELETE FROM orchestrator.straggler WHERE owner = :owner RETURNING execution_id, path")

#: That nobody heard of its end is told in the history.
END_GONE = text(f"""
WITH g AS (
    DELETE FROM orchestrator.straggler g
    WHERE {GONE.replace("<row>", "g")} OR {LOST_CHILD.replace("<row>", "g")} OR g.due_at < clock_timestamp() - {_KILLED}
    RETURNING g.execution_id, g.tenant, g.path, g.attempt, g.owner
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt, data)
    SELECT execution_id, tenant, 'attempt_lost', path, attempt, jsonb_build_object('owner', owner) FROM g
)
SELECT execution_id, path FROM g
""")

ANY = text("SELECT path FROM orchestrator.straggler WHERE execution_id = :execution ORDER BY path LIMIT 1")


def end(connection: Connection, held: Claim) -> bool:
    """Say that an attempt has ended that was fenced; True if its step was settled without it, and that is news."""
    parameters = {"execution": held.execution_id, "path": held.path, "owner": held.owner}
    return connection.execute(END, parameters).first() is not None


def end_owners(connection: Connection, owner: str) -> list[tuple[str, str]]:
    """Say that whatever an owner was at work on has ended; execution ids and paths."""
    return [(str(row[0]), row[1]) for row in connection.execute(END_OWNERS, {"owner": owner})]


def end_gone(connection: Connection) -> list[tuple[str, str]]:
    """Take attempts for ended whose owners are gone, or that are long past their time; execution ids and paths."""
    return [(str(row[0]), row[1]) for row in connection.execute(END_GONE)]


def first(connection: Connection, execution_id: str) -> str | None:
    """The path of an attempt that goes on though its step was settled; None when there is none."""
    found: str | None = connection.execute(ANY, {"execution": execution_id}).scalar()
    return found
