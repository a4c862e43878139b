"""What must hold of the ledger at any time, each claim one SQL statement that yields its violations.

The claims on standing rows read unfinished executions and open steps only, by partial indexes. Those on history read
every event once and sort or hash what they compare: linear in the ledger's size, seconds for millions of events,
without locks. So they may be checked beside working workers, and on a big ledger they belong in a quiet hour.

What a crash leaves behind and a sweep heals is no violation until GRACE has passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from orchestrator.ledger.stragglers import at_work
from orchestrator.ledger.tables import FINAL, OPEN, SETTLED, sql_list
from orchestrator.model.identity import UNDO_PREFIX
from orchestrator.model.state import SETTLED_STEPS

#: Seconds that the sweeps have to take up what a crash left behind.
GRACE = 30
#: Violations that are named; the rest is only counted.
SAMPLE = 5

_SETTLING = sql_list(f"step_{status}" for status in SETTLED_STEPS)
_RECENTLY = f"clock_timestamp() - interval '{GRACE} seconds'"

_UNFINISHED_WITHOUT_STEP = f"""
    SELECT format('execution %s is %s and has no open step', x.id, x.status) AS found
    FROM orchestrator.execution x
    WHERE x.status NOT IN ({FINAL}) AND x.status <> 'paused' AND x.created_at < {_RECENTLY}
      AND NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.{OPEN})
      AND NOT EXISTS (SELECT FROM orchestrator.step s WHERE s.execution_id = x.id AND s.settled_at > {_RECENTLY})
      AND NOT {at_work("x.id")}
      AND NOT EXISTS (SELECT FROM orchestrator.execution c WHERE c.parent_id = x.id
                      AND (c.status NOT IN ({FINAL}) OR c.settled_at > {_RECENTLY}))
"""

_OPEN_IN_FINAL = f"""
    SELECT format('step %s of execution %s is %s, the execution %s', s.path, x.id, s.status, x.status) AS found
    FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id
    WHERE s.{OPEN} AND x.status IN ({FINAL})
"""

_SETTLED_TWICE = """
    SELECT format('step %s of execution %s succeeded %s times', path, execution_id, count(*)) AS found
    FROM orchestrator.event WHERE type = 'step_succeeded' GROUP BY execution_id, path HAVING count(*) > 1
"""

#: A missing output and JSON's null are the same.
_ROW_UNLIKE_EVENT = f"""
    SELECT format('step %s of execution %s is %s, its last settling event %s', s.path, s.execution_id, s.status,
                  coalesce(e.type, 'is missing')) AS found
    FROM orchestrator.step s
    LEFT JOIN (SELECT execution_id, path, max(id) AS id FROM orchestrator.event
               WHERE type IN ({_SETTLING}) GROUP BY execution_id, path) l USING (execution_id, path)
    LEFT JOIN orchestrator.event e ON e.execution_id = l.execution_id AND e.id = l.id
    WHERE s.status IN ({SETTLED}) AND (
        e.type IS DISTINCT FROM 'step_' || s.status
        OR (s.status = 'succeeded' AND coalesce(s.output, 'null') <> coalesce(e.data -> 'output', 'null')))
"""

#: Compensations that began together, in one statement: those of a whole execution, or those of a part, the steps whose
#: paths begin with `inner`. Their first events have its transaction's number, and so has that of the step that waits.
_BATCHES = f"""
    firsts AS MATERIALIZED (
        SELECT execution_id, path, min(id) AS id FROM orchestrator.event
        WHERE starts_with(path, '{UNDO_PREFIX}') GROUP BY execution_id, path
    ), parts AS MATERIALIZED (
        SELECT execution_id, xid, data ->> 'inner' AS inner FROM orchestrator.event
        WHERE type = 'step_waiting' AND data ->> 'awaits' = 'undo'
    ), batches AS MATERIALIZED (
        SELECT u.execution_id, u.path, u.undoes, b.xid, coalesce(p.inner, '') AS inner
        FROM orchestrator.step u
        JOIN firsts f ON f.execution_id = u.execution_id AND f.path = u.path
        JOIN orchestrator.event b ON b.execution_id = f.execution_id AND b.id = f.id
        LEFT JOIN parts p ON p.execution_id = b.execution_id AND p.xid = b.xid
        WHERE u.undoes IS NOT NULL
    )
"""

#: By event id, the order in which settles were made. A compensation counts by its first end: an operator's later
#: repetition of a failed one comes after the rest. Those that were left alone for a failed one have not ended.
_UNDO_ORDER = f"""
    WITH {_BATCHES}, settles AS MATERIALIZED (
        SELECT execution_id, path, min(id) FILTER (WHERE type <> 'step_cancelled') AS first, max(id) AS last
        FROM orchestrator.event WHERE type IN ({_SETTLING}) GROUP BY execution_id, path
    )
    SELECT format('execution %s: %s ended after %s', execution_id, path, before) AS found
    FROM (
        SELECT u.execution_id, u.path, f.last AS did,
               lag(f.last) OVER undone AS did_before, lag(u.path) OVER undone AS before
        FROM batches u
        JOIN settles o ON o.execution_id = u.execution_id AND o.path = u.path
        JOIN settles f ON f.execution_id = u.execution_id AND f.path = u.undoes
        WHERE o.first IS NOT NULL
        WINDOW undone AS (PARTITION BY u.execution_id, u.xid ORDER BY o.first)
    ) ordered
    WHERE did > did_before
"""

_UNDO_TOO_EARLY = f"""
    WITH {_BATCHES}
    SELECT format('execution %s: a compensation started before %s had settled', u.execution_id, e.path) AS found
    FROM (SELECT s.execution_id, s.inner, min(b.id) AS began
          FROM batches s JOIN orchestrator.event b
            ON b.execution_id = s.execution_id AND b.path = s.path AND b.type = 'step_started'
          GROUP BY s.execution_id, s.inner, s.xid) u
    JOIN orchestrator.event e ON e.execution_id = u.execution_id AND e.id > u.began
     AND e.type IN ('step_started', {_SETTLING}) AND starts_with(e.path, u.inner)
    JOIN orchestrator.step f ON f.execution_id = e.execution_id AND f.path = e.path AND f.undoes IS NULL
"""

_KEY_TWICE = """
    SELECT format('%s: key %s has %s executions', definition_name, idempotency_key, count(*)) AS found
    FROM orchestrator.execution WHERE idempotency_key IS NOT NULL
    GROUP BY tenant, definition_name, idempotency_key HAVING count(*) > 1
"""

#: A step, or what was left of a race.
_HELD_BY_NOBODY = f"""
    SELECT format('step %s of execution %s is held by %s, which is %s', s.path, s.execution_id, s.owner,
                  CASE WHEN w.boot_id IS NULL THEN 'unknown' ELSE 'gone' END) AS found
    FROM (SELECT execution_id, path, owner, started_at FROM orchestrator.step WHERE status = 'running'
          UNION ALL SELECT execution_id, path, owner, started_at FROM orchestrator.straggler) s
    LEFT JOIN orchestrator.worker w ON w.boot_id = split_part(s.owner, '.', 1)
    WHERE CASE WHEN w.boot_id IS NULL THEN s.started_at < {_RECENTLY}
          ELSE least(w.buried_at, w.stopped_at) < {_RECENTLY} END
"""

#: What makes a step ready again, with right, is recorded in between.
_READY_TWICE = f"""
    SELECT format('step %s of execution %s became ready twice', path, execution_id) AS found
    FROM (SELECT execution_id, path, type, lag(type) OVER (PARTITION BY execution_id, path ORDER BY id) AS before
          FROM orchestrator.event
          WHERE type IN ('step_ready', 'step_released', 'step_retrying', 'step_waiting', {_SETTLING})) e
    WHERE type = 'step_ready' AND before = 'step_ready'
"""

_NOT_FINAL = f"""
    SELECT format('execution %s is %s', id, status) AS found FROM orchestrator.execution WHERE status NOT IN ({FINAL})
"""

#: The claims by name; each statement yields one text for each violation.
CLAIMS = {
    "every execution is final or has an open step": _UNFINISHED_WITHOUT_STEP,
    "no final execution has an open step": _OPEN_IN_FINAL,
    "no step is committed twice": _SETTLED_TWICE,
    "every settled step agrees with its last settling event": _ROW_UNLIKE_EVENT,
    "compensations end in the reverse order of what they undo": _UNDO_ORDER,
    "no compensation starts before all attempts have settled": _UNDO_TOO_EARLY,
    "no idempotency key has two executions": _KEY_TWICE,
    "no step is held by a worker that is gone": _HELD_BY_NOBODY,
    "no step becomes ready twice, so every join fires once": _READY_TWICE,
}

#: Holds once the work is done.
FINAL_CLAIM = {"every execution is final": _NOT_FINAL}


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A claim about the ledger and what was found."""

    name: str
    violations: int
    #: The first few violations, in words.
    sample: list[str]

    @property
    def ok(self) -> bool:
        """Whether the claim holds."""
        return not self.violations


def verify(connection: Connection, *, final: bool = False) -> list[Check]:
    """Check every claim, on all tenants; changes nothing.

    Args:
        final: also claim that every execution is final, as it must be when the work is done.
    """
    return [_check(connection, name, found) for name, found in (CLAIMS | (FINAL_CLAIM if final else {})).items()]


def _check(connection: Connection, name: str, violations: str) -> Check:
    statement = f"""
        SELECT count(*), coalesce(array_agg(found ORDER BY n) FILTER (WHERE n <= {SAMPLE}), '{{}}')
        FROM (SELECT found, row_number() OVER () AS n FROM ({violations}) v) numbered
    """
    count, sample = connection.execute(text(statement)).one()
    return Check(name=name, violations=count, sample=sample)
