"""Worker nodes: heartbeats, burials, and the release of dead owners' claims.

An owner's name is its node's boot id, a dot, and the process (or thread) in it. Release is the only statement that
turns running back to ready; the fencing token makes a release of a living owner harmless: its settle writes nothing.

Each release counts the death on the step's row, unless the owner ended in good order. A step that would be released
once too often has perhaps killed its owners: it is not released but told of (`Released.held`), and stays running under
the dead owner until the engine has failed it with that owner's token. Of two releasers that are told of it, one's
settle writes; if both die before, the next release tells of it again. Nothing sets the count back.

A node buries others only if it has itself been heard without a gap for as long as silence means death: after an outage
of the database every node looks silent, and the first one back must not bury the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, TextClause, text

from orchestrator.ledger import stragglers
from orchestrator.ledger.claims import Claim
from orchestrator.ledger.gone import GONE, LOST_CHILD
from orchestrator.model.state import StepStatus

REGISTER = text("""
INSERT INTO orchestrator.worker (boot_id, tenant, name, queues, children, pid, draining_at)
VALUES (:boot, :tenant, :name, :queues, :children, :pid, CASE WHEN :draining THEN clock_timestamp() END)
ON CONFLICT (boot_id) DO NOTHING
""")

#: Zero rows: this node was buried, and its claims were given to others.
BEAT = text("""
UPDATE orchestrator.worker SET
    alive_since = CASE WHEN seen < clock_timestamp() - CAST(:gap AS float8) * interval '1 second'
                       THEN clock_timestamp() ELSE alive_since END,
    seen = clock_timestamp(), children = :children, queues = :queues
WHERE boot_id = :boot AND buried_at IS NULL RETURNING draining_at IS NOT NULL
""")

STOP = text(
    "UPDATE orchestrator.worker SET stopped_at = clock_timestamp() WHERE boot_id = :boot AND stopped_at IS NULL"
)

BURY = text("""
WITH dead AS MATERIALIZED (
    SELECT boot_id FROM orchestrator.worker
    WHERE buried_at IS NULL AND stopped_at IS NULL
      AND seen < (SELECT clock_timestamp()) - CAST(:silence AS float8) * interval '1 second'
      AND EXISTS (SELECT FROM orchestrator.worker me WHERE me.boot_id = :observer AND me.buried_at IS NULL
                  AND me.alive_since < clock_timestamp() - CAST(:silence AS float8) * interval '1 second'
                  AND me.seen > clock_timestamp() - CAST(:silence AS float8) * interval '1 second' / 2)
    FOR UPDATE SKIP LOCKED
)
UPDATE orchestrator.worker w SET buried_at = clock_timestamp() FROM dead
WHERE w.boot_id = dead.boot_id AND w.buried_at IS NULL
  AND w.seen < clock_timestamp() - CAST(:silence AS float8) * interval '1 second'
RETURNING w.boot_id, w.name
""")

_RELEASE = """
WITH held AS MATERIALIZED (
    SELECT execution_id, path, owner, attempt, failures, halt, crashes + CASE WHEN <died> THEN 1 ELSE 0 END AS crashes,
           <died> AND NOT halt AND crashes + 1 >= CAST(:most AS int) AS is_poison
    FROM orchestrator.step WHERE status = 'running' AND <whose> FOR UPDATE <waiting>
), r AS (
    UPDATE orchestrator.step s SET owner = NULL, due_at = NULL, crashes = held.crashes,
           status = CASE WHEN s.halt THEN 'cancelled' ELSE 'ready' END,
           ready_xid = CASE WHEN NOT s.halt THEN pg_current_xact_id() END, ready_at = clock_timestamp(),
           settled_at = CASE WHEN s.halt THEN clock_timestamp() END
    FROM held
    WHERE s.execution_id = held.execution_id AND s.path = held.path AND s.status = 'running' AND s.owner = held.owner
      AND is_poison IS NOT TRUE
    RETURNING s.execution_id, s.path, s.tenant, s.attempt, s.status, held.owner
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt, data)
    SELECT execution_id, tenant, CASE status WHEN 'ready' THEN 'step_released' ELSE 'step_cancelled' END, path, attempt,
           jsonb_build_object('owner', owner) FROM r
)
SELECT execution_id, path, status, attempt, owner, 0 AS failures, 0 AS crashes FROM r
UNION ALL SELECT execution_id, path, 'running', attempt, owner, failures, crashes FROM held WHERE is_poison
"""


def _release(whose: str, *, died: str = "true", waiting: str = "SKIP LOCKED") -> TextClause:
    return text(_RELEASE.replace("<whose>", whose).replace("<died>", died).replace("<waiting>", waiting))


#: Waits for the dead owner's last statement, which may still be at work.
RELEASE_OWNER = _release("owner = :owner", died="CAST(:died AS boolean)", waiting="")
RELEASE_GONE = _release(
    GONE.replace("<row>", "step"),
    died="""NOT EXISTS (
    SELECT FROM orchestrator.worker w WHERE w.stopped_at IS NOT NULL AND w.boot_id = split_part(owner, '.', 1))""",
)
RELEASE_LOST_CHILDREN = _release(LOST_CHILD.replace("<row>", "step"))


def _release_records(whose: str) -> TextClause:
    return text(f"""
UPDATE orchestrator.idempotency_record r SET status = 'ready', owner = NULL
WHERE r.status = 'running' AND {whose}
""")


#: The dead owner's last statement may still be at work. A settle or a give-back holds its row and is waited for: then
#: the row no longer runs. A take is not waited for, as its row does not run yet in what this statement sees;
#: RELEASE_LOST_RECORDS sees it later.
RELEASE_RECORDS = _release_records("r.owner = :owner")
#: Off its main thread a process takes records under its name, a hyphen, and the thread. The range holds just the names
#: that begin so, as "." follows "-" and the column is compared by bytes; it finds them by index, whatever the name.
RELEASE_RECORDS_OF_PROCESS = _release_records(
    """(r.owner = :owner OR (r.owner > CAST(:owner AS text) || '-' AND r.owner < CAST(:owner AS text) || '.'))"""
)
#: Of two that release a record, one's UPDATE waits for the other's and finds it ready, or taken anew: by an owner whose
#: start is later than any heartbeat that it sees. A record that is settled meanwhile is no longer running.
RELEASE_LOST_RECORDS = _release_records(f"({GONE} OR {LOST_CHILD})".replace("<row>", "r"))


#: In the place of a step's status: see ledger/stragglers.py.
ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A claim taken from a dead owner, or to be failed."""

    execution_id: str
    path: str
    #: ready: to be published; cancelled: its execution had been flagged; running: to be failed; ENDED: it was settled
    #: before, and what goes back may have waited for the owner.
    status: str
    #: Of a step that is to be failed: the dead owner's claim, and how many owners have died with it, this one included.
    held: Claim | None = None
    crashes: int = 0


def register(
    connection: Connection,
    boot_id: str,
    *,
    tenant: str,
    name: str,
    queues: Sequence[str],
    children: Sequence[int],
    pid: int,
    draining: bool = False,
) -> None:
    """Enter a node that has just come up, or that goes on under a new boot id."""
    connection.execute(
        REGISTER,
        {
            "boot": boot_id,
            "tenant": tenant,
            "name": name,
            "queues": list(queues),
            "children": list(children),
            "pid": pid,
            "draining": draining,
        },
    )


def beat(
    connection: Connection, boot_id: str, *, children: Sequence[int], queues: Sequence[str], gap: float
) -> bool | None:
    """Say that the node lives; whether it is to drain, or None when it was buried and must take a new boot id.

    Args:
        gap: a silence this long, in seconds, begins `alive_since` anew.
    """
    parameters = {"boot": boot_id, "children": list(children), "queues": list(queues), "gap": gap}
    return connection.execute(BEAT, parameters).scalar()


def stop(connection: Connection, boot_id: str) -> None:
    """Say that the node has ended in good order; whatever it still holds may be released at once."""
    connection.execute(STOP, {"boot": boot_id})


def bury(connection: Connection, observer: str, silence: float) -> list[tuple[str, str]]:
    """Declare nodes dead that were silent for `silence` seconds; boot ids and names.

    Nothing happens unless the observer itself was heard all that time.
    """
    return [(row[0], row[1]) for row in connection.execute(BURY, {"observer": observer, "silence": silence})]


def release(
    connection: Connection, owner: str, *, max_crashes: int | None = None, died: bool = True, whole: bool = False
) -> list[Released]:
    """Take back whatever this owner holds; the caller publishes it, or fails it.

    Args:
        max_crashes: so many dead owners fail a step; None releases all.
        died: False when it was told to end, which is nobody's fault and not counted.
        whole: the owner is a process that has ended, so what its threads have taken under names of their own is
            released too: keys of `@idempotent`, as steps are claimed in a pool child's main thread alone.
    """
    connection.execute(RELEASE_RECORDS_OF_PROCESS if whole else RELEASE_RECORDS, {"owner": owner})
    released = _released(connection, RELEASE_OWNER, {"owner": owner, "most": max_crashes, "died": died})
    return [*released, *_ended(stragglers.end_owners(connection, owner))]


def release_gone(connection: Connection, *, max_crashes: int | None = None) -> list[Released]:
    """Take back whatever is held by nodes that are gone, or by children that their nodes no longer list.

    This also finds what `release` has missed: the database was away for too long, or a take was in its commit when its
    child was killed. Keys of `@idempotent` that were taken outside workers stay: nobody hears whether those live.

    Args:
        max_crashes: so many dead owners fail a step; None releases all.
    """
    connection.execute(RELEASE_LOST_RECORDS)
    most = {"most": max_crashes}
    released = [*_released(connection, RELEASE_GONE, most), *_released(connection, RELEASE_LOST_CHILDREN, most)]
    return [*released, *_ended(stragglers.end_gone(connection))]


def _ended(found: list[tuple[str, str]]) -> list[Released]:
    return [Released(execution_id=execution_id, path=path, status=ENDED) for execution_id, path in found]


def _released(connection: Connection, statement: TextClause, parameters: dict[str, Any]) -> list[Released]:
    return [_one(row) for row in connection.execute(statement, parameters)]


def _one(row: Sequence[Any]) -> Released:
    execution_id, path, status, attempt, owner, failures, crashes = row
    if status != StepStatus.RUNNING:
        return Released(execution_id=str(execution_id), path=path, status=status)
    held = Claim(execution_id=str(execution_id), path=path, attempt=attempt, owner=owner, failures=failures)
    return Released(execution_id=held.execution_id, path=path, status=status, held=held, crashes=crashes)
