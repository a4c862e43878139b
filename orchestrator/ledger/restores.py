"""After a restore: a ledger that is older than the world around it is made fit to be worked on again.

All of this is one transaction, carried out while no worker is at work: `ALIVE` refuses otherwise, before and once more
at its end. Applications may start executions meanwhile; what they start in between may be held still like the rest.

A restore into another cluster may set transaction ids back, so that what is ready would look as if its message were
still to be published, for ever. `ANEW` gives it the present one; probes, whose horizons are as foreign, go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from orchestrator.ledger import owners
from orchestrator.ledger.controls import BY, By, audited

#: Nodes that say that they live.
ALIVE = text("""
SELECT name, CAST(extract(epoch FROM clock_timestamp() - seen) AS float8) FROM orchestrator.worker
WHERE stopped_at IS NULL AND buried_at IS NULL
  AND seen > clock_timestamp() - CAST(:dead_after AS float8) * interval '1 second'
ORDER BY seen DESC LIMIT 1
""")

#: The last sign of life before the backup, or the last time that this was done.
LAST_HEARD = text("""
SELECT greatest((SELECT max(seen) FROM orchestrator.worker),
                (SELECT at FROM orchestrator.event ORDER BY id DESC LIMIT 1),
                (SELECT max(at) FROM orchestrator.audit WHERE command = 'restored')), clock_timestamp()
""")

#: Nodes of the time before, which have ended in good order: what they held is not held against the steps.
ENDED = text(
    "UPDATE orchestrator.worker SET stopped_at = clock_timestamp() WHERE stopped_at IS NULL AND buried_at IS NULL"
)

ANEW = text("""
UPDATE orchestrator.step SET ready_xid = pg_current_xact_id(), ready_at = clock_timestamp() WHERE status = 'ready'
""")
PROBES = text("DELETE FROM orchestrator.probe")

#: Time stood still for what goes on, as it does for what is paused: its deadline moves when it is resumed.
DEADLINES = text("""
UPDATE orchestrator.execution SET deadline = deadline + (clock_timestamp() - CAST(:heard AS timestamptz))
WHERE settled_at IS NULL AND deadline IS NOT NULL AND paused_at IS NULL
""")

DEFINITIONS = text("""
SELECT DISTINCT tenant, definition_id FROM orchestrator.execution
WHERE status IN ('created', 'running', 'pausing', 'paused') ORDER BY tenant, definition_id
""")

#: Executions `x` of a definition in which something of :tops is not done, and what: its paths, in their order.
_DOUBTED = """
    SELECT x.id, u.paths FROM orchestrator.execution x, LATERAL (
        SELECT array_agg(p.path ORDER BY t.number, p.number) AS paths
        FROM jsonb_array_elements(CAST(:tops AS jsonb)) WITH ORDINALITY AS t(top, number),
             jsonb_array_elements_text(t.top -> 'paths') WITH ORDINALITY AS p(path, number)
        WHERE NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.path = t.top ->> 'id'
                          AND <done>)) u
    WHERE x.definition_id = :definition AND u.paths IS NOT NULL AND <status>
    FOR UPDATE OF x
"""


def _doubted(status: str, done: str = "s.settled_at IS NOT NULL") -> str:
    return _DOUBTED.replace("<status>", status).replace("<done>", done)


DEFINITIONS_RETRIED = text("SELECT DISTINCT definition_id FROM orchestrator.execution WHERE retry_at IS NOT NULL")

#: What failed by the backup and is retried as a whole by itself, from whatever has not succeeded in it.
RETRIED = text(_doubted("x.status = 'failed' AND x.retry_at IS NOT NULL", "s.status IN ('succeeded', 'skipped')"))

#: What had been accepted by the backup and was to begin since: it runs, so that it can be paused.
BEGIN = text(f"""
WITH doubted AS MATERIALIZED ({
    _doubted("x.status = 'created' AND (x.start_at IS NULL OR x.start_at <= clock_timestamp())")
}), x AS (
    UPDATE orchestrator.execution x SET status = 'running',
           deadline = clock_timestamp() + allowance * interval '1 second'
    FROM doubted WHERE x.id = doubted.id RETURNING x.id, x.tenant
), s AS (
    UPDATE orchestrator.step SET due_at = clock_timestamp() FROM x
    WHERE execution_id = x.id AND status = 'waiting' AND due_at IS NULL
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type) SELECT id, tenant, 'execution_running' FROM x
)
SELECT count(*) FROM x
""")

#: What an operator has paused before the backup stays paused, and is told of too: it may have been resumed since.
HOLD = text(f"""
WITH doubted AS MATERIALIZED ({_doubted("x.status IN ('running', 'pausing', 'paused')")}), x AS (
    UPDATE orchestrator.execution x SET status = 'pausing', paused_at = clock_timestamp()
    FROM doubted WHERE x.id = doubted.id AND x.status = 'running'
    RETURNING x.id, x.tenant, CAST(:because AS text) || array_to_string(doubted.paths, ', ') AS reason
), a AS ({audited("pause").replace("CAST(:reason AS text)", "x.reason")}), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type, data)
    SELECT id, tenant, 'execution_pausing', {BY.replace("CAST(:reason AS text)", "x.reason")} FROM x
)
SELECT id, paths FROM doubted ORDER BY id
""")

REST = text("""
WITH x AS (
    UPDATE orchestrator.execution x SET status = 'paused'
    WHERE x.status = 'pausing' AND NOT EXISTS (
        SELECT FROM orchestrator.step WHERE execution_id = x.id AND status = 'running')
    RETURNING id, tenant
), e AS (
    INSERT INTO orchestrator.event (execution_id, tenant, type) SELECT id, tenant, 'execution_paused' FROM x
)
SELECT count(*) FROM x
""")

GOES_ON = text("SELECT count(*) FROM orchestrator.execution WHERE settled_at IS NULL AND paused_at IS NULL")

AUDIT = text("""
INSERT INTO orchestrator.audit (tenant, actor, command, reason, parameters)
VALUES (:tenant, :actor, 'restored', :reason, CAST(:parameters AS jsonb))
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubted:
    """An execution that is held still, as some of it may have been done since the backup."""

    id: str
    #: Of what may have been.
    paths: tuple[str, ...]


def alive(connection: Connection, dead_after: float) -> tuple[str, float] | None:
    """A node that was heard less than `dead_after` seconds ago, and how long ago; None when there is none."""
    row = connection.execute(ALIVE, {"dead_after": dead_after}).first()
    return None if row is None else (row[0], row[1])


def times(connection: Connection) -> tuple[datetime | None, datetime]:
    """When this ledger was last worked on before the backup, None if never, and the present time."""
    row = connection.execute(LAST_HEARD).one()
    return row[0], row[1]


def take_back(connection: Connection, heard: datetime | None) -> int:
    """End the nodes of the time before and take back what they held, have everything published anew, and move
    deadlines by the time since `heard`; how many claims were taken back."""
    connection.execute(ENDED)
    released = owners.release_gone(connection)
    connection.execute(ANEW)
    connection.execute(PROBES)
    if heard is not None:
        connection.execute(DEADLINES, {"heard": heard})
    return len(released)


def definitions_retried(connection: Connection) -> list[str]:
    """Ids of the definitions of what is to be retried as a whole by itself."""
    return [str(found) for found in connection.execute(DEFINITIONS_RETRIED).scalars()]


def definitions(connection: Connection) -> list[tuple[str, str]]:
    """Tenants and ids of the definitions of what goes forward."""
    return [(row[0], str(row[1])) for row in connection.execute(DEFINITIONS)]


def retried(connection: Connection, definition_id: str, tops: Mapping[str, Sequence[str]]) -> list[str]:
    """Failed executions of a definition that are to be retried by themselves, from one of these steps at the top or
    from before it; nothing is changed. For `tops` see `hold`."""
    rows = connection.execute(RETRIED, {"definition": definition_id, "tops": _as_json(tops)})
    return [str(row[0]) for row in rows]


def hold(
    connection: Connection, definition_id: str, tops: Mapping[str, Sequence[str]], because: str, by: By
) -> list[Doubted]:
    """Pause each execution of a definition in which one of these steps at the top is not settled.

    Args:
        tops: step at the top -> paths in it that may have been carried out.
        because: why, followed by the paths, for the history and the audit.
    """
    about = {"definition": definition_id, "tops": _as_json(tops)}
    connection.execute(BEGIN, about)
    rows = connection.execute(HOLD, {**about, "because": because, **by.parameters()})
    return [Doubted(id=str(row[0]), paths=tuple(row[1])) for row in rows]


def _as_json(tops: Mapping[str, Sequence[str]]) -> str:
    return json.dumps([{"id": top, "paths": list(paths)} for top, paths in tops.items()])


def rest(connection: Connection) -> None:
    """Note that what is being paused stands still: nothing runs any more."""
    connection.execute(REST)


def going_on(connection: Connection) -> int:
    """How many executions go on by themselves once workers work."""
    return int(connection.execute(GOES_ON).scalar_one())


def enter(connection: Connection, tenant: str, by: By, facts: Mapping[str, object]) -> None:
    """Enter it in the audit."""
    connection.execute(AUDIT, {**by.parameters(**facts), "tenant": tenant})
