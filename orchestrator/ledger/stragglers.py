"""Stragglers: attempts, and executions, that go on though their step was settled without them.

Whoever loses a race is cancelled at once, so that the execution goes on without it; but its activity works on until it
is told, and what it does then is still to be undone if the execution goes back, or the one whose child that is. So the
statement that cancels it notes who is at work (ledger/joins.py), and compensations begin only once nobody is
(ledger/halts.py, undos.py, parks.py). None can come after an execution has succeeded: whoever claims a join has all its
losers cancelled first.

A loser may be an execution of its own. That has no worker to note, but it is open as long as it goes on, and while it
goes back, and its end advances its parent: so an execution that has ended is asked for open children, too.

Who else can be here: the worker whose attempt it is, which says that it has ended; whoever releases the claims of an
owner, which has ended with it; the sweep, when the owner is gone or the attempt is long past its time, as it is taken
for ended everywhere then; and whoever turns the execution back. The DELETE decides who goes on from there. Whoever
turns back in the same moment may still see the note, and does nothing; but then the note's end has still to look at the
flag, which was committed before. One that dies between the two leaves what the stalled sweep looks for.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from orchestrator.ledger.claims import Claim
from orchestrator.ledger.gone import GONE, LOST_CHILD
from orchestrator.ledger.tables import FINAL

#: A process that outstays its attempt is killed by its node well within this time (runtime/watch.py); in pools that
#: kill nobody, such an attempt is fenced and no more, as any other.
_KILLED = "interval '30 seconds'"


def _lost(child: str) -> str:
    """The condition that a child goes on, or back, whose step was cancelled: it is cancelled too, if only by a sweep.
    One that an operator has retried, say, goes on by itself, and is nobody's to wait for."""
    return f"""{child}.status NOT IN ({FINAL}) AND EXISTS (
            SELECT FROM orchestrator.step l
            WHERE l.execution_id = {child}.parent_id AND l.path = {child}.parent_path AND l.status = 'cancelled')"""


#: A child `g` of an execution `c` that has ended without it.
_LEFT_OPEN = f"c.status IN ({FINAL}) AND {_lost('g')}"


def at_work(execution: str) -> str:
    """The condition, in SQL, that somebody is at work so for an execution, or for a child of it that has ended.

    Args:
        execution: an SQL expression that gives its id.
    """
    return f"""(EXISTS (
        SELECT FROM orchestrator.straggler g JOIN orchestrator.execution c ON c.id = g.execution_id
        WHERE c.id = {execution} OR c.parent_id = {execution})
    OR EXISTS (
        SELECT FROM orchestrator.execution c JOIN orchestrator.execution g ON g.parent_id = c.id
        WHERE (c.id = {execution} OR c.parent_id = {execution}) AND {_LEFT_OPEN}))"""


def at_work_within(execution: str, inner: str) -> str:
    """Likewise for the steps whose paths begin with `inner`, another SQL expression, or for children of these; and that
    one of these children has lost, and goes on or back."""
    return f"""(EXISTS (
        SELECT FROM orchestrator.straggler g JOIN orchestrator.execution c ON c.id = g.execution_id
        WHERE c.id = {execution} AND starts_with(g.path, {inner})
           OR c.parent_id = {execution} AND starts_with(c.parent_path, {inner}))
    OR EXISTS (
        SELECT FROM orchestrator.execution c LEFT JOIN orchestrator.execution g ON g.parent_id = c.id AND {_LEFT_OPEN}
        WHERE c.parent_id = {execution} AND starts_with(c.parent_path, {inner})
          AND (g.id IS NOT NULL OR {_lost("c")})))"""


_TOLD = """EXISTS (
    SELECT FROM orchestrator.event e WHERE e.execution_id = g.execution_id AND e.type = 'attempt_fenced'
       AND e.path = g.path AND e.attempt = g.attempt)"""

#: Its worker has noted in the history that the attempt was fenced.
END = text("""
DELETE FROM orchestrator.straggler WHERE execution_id = :execution AND path = :path AND owner = :owner RETURNING path
""")

END_OWNERS = text("DELETE FROM orchestrator.straggler WHERE owner = :owner RETURNING execution_id, path")

#: That nobody heard of its end is told in the history. A worker of the release before this one tells only there, and
#: leaves the note.
END_GONE = text(f"""
WITH g AS (
    DELETE FROM orchestrator.straggler g
    WHERE {GONE.replace("<row>", "g")} OR {LOST_CHILD.replace("<row>", "g")} OR g.due_at < clock_timestamp() - {_KILLED}
       OR {_TOLD}
    RETURNING g.execution_id, g.tenant, g.path, g.attempt, g.owner, {_TOLD} AS told
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt, data)
    SELECT execution_id, tenant, 'attempt_lost', path, attempt, jsonb_build_object('owner', owner) FROM g
    WHERE NOT told
)
SELECT execution_id, path FROM g
""")

#: As for a step that has it still (ledger/heartbeats.py).
BEAT = text("""
UPDATE orchestrator.straggler SET due_at = least(started_at + CAST(:timeout AS float8) * interval '1 second',
                                                 clock_timestamp() + CAST(:patience AS float8) * interval '1 second')
WHERE execution_id = :execution AND path = :path AND owner = :owner RETURNING path
""")

OF = text(f"""
SELECT CASE WHEN c.id = :execution THEN g.path ELSE c.parent_path || ' / ' || g.path END AS path, g.owner
FROM orchestrator.straggler g JOIN orchestrator.execution c ON c.id = g.execution_id
WHERE c.id = :execution OR c.parent_id = :execution
UNION ALL
SELECT CASE WHEN c.id = :execution THEN g.parent_path ELSE c.parent_path || ' / ' || g.parent_path END,
       'execution ' || g.id
FROM orchestrator.execution c JOIN orchestrator.execution g ON g.parent_id = c.id
WHERE (c.id = :execution OR c.parent_id = :execution) AND {_LEFT_OPEN}
ORDER BY 1 LIMIT 20
""")


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


def beat(connection: Connection, held: Claim, *, timeout: float | None, patience: float) -> bool:
    """Put off the time after which an attempt is taken for ended; False when it is none of these.

    Args:
        timeout: seconds that it may take in all.
        patience: seconds within which it must be heard again.
    """
    parameters = {"execution": held.execution_id, "path": held.path, "owner": held.owner}
    return connection.execute(BEAT, parameters | {"timeout": timeout, "patience": patience}).first() is not None


def of(connection: Connection, execution_id: str) -> list[tuple[str, str]]:
    """What goes on though its step, or one of a child, was settled: paths, and owners or executions, 20 at most."""
    return [(row[0], row[1]) for row in connection.execute(OF, {"execution": execution_id})]
