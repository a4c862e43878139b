"""Incidents: opened once, each execution counted once whoever sweeps, resolved when what they are about is over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import TextClause

from ledger.driver import Begun, Ledger
from ledger.races import race
from orchestrator.ledger import database, failures, incidents, troubles
from orchestrator.ledger.incidents import Incident, Subject

NOW = datetime.now(UTC)
SILENCE = 10.0


def incident(fingerprint: str, kind: str = "retries_exhausted", **detail: Any) -> Incident:
    return Incident(tenant="default", kind=kind, fingerprint=fingerprint, title=f"about {fingerprint}", detail=detail)


def subject(begun: Begun, path: str = "one", at: datetime = NOW) -> Subject:
    return Subject(execution_id=begun.id, path=path, at=at)


def count(ledger: Ledger, about: Incident, subjects: Sequence[Subject]) -> int:
    """As a sweep does."""
    with database.transaction(ledger.engine) as connection:
        counted = incidents.count(connection, about, subjects)
        if not counted:
            connection.rollback()
    return counted


def rows(ledger: Ledger, fingerprint: str) -> list[Any]:
    """Every incident with a fingerprint, the oldest first."""
    return ledger.sql("SELECT * FROM orchestrator.incident WHERE fingerprint = :f ORDER BY opened_at", f=fingerprint)


def resolve(ledger: Ledger) -> set[str]:
    """Titles of what is over."""
    return {found.title for found in ledger.do(incidents.resolve, silence=SILENCE)}


def end(ledger: Ledger, begun: Begun, status: str, category: str = "transient", ago: float = 0) -> None:
    """Have an execution end with an error, so many seconds ago."""
    before = {"failed": "failing", "timed_out": "timing_out", "cancelled": "cancelling"}.get(status, "failing")
    ledger.flag(begun, before)
    if status in {"compensated", "compensation_failed"}:
        ledger.sql("UPDATE orchestrator.execution SET status = 'compensating' WHERE id = :e", e=begun.id)
    ledger.sql(
        "UPDATE orchestrator.execution SET status = :s, settled_at = now() - CAST(:ago AS float8) * interval '1 s', "
        "error = jsonb_build_object('category', CAST(:c AS text), 'name', 'Busy', 'message', 'm', 'step', 'one') "
        "WHERE id = :e",
        s=status,
        c=category,
        ago=ago,
        e=begun.id,
    )


def test_sweeps_at_once_open_one_incident_and_count_each_execution_once(ledger: Ledger) -> None:
    failed = [subject(ledger.start({"one": ()})) for _ in range(12)]
    # Each sweep has seen another part; all overlap.
    counted = race([partial(count, ledger, incident("race"), failed[n : n + 8]) for n in range(5)])
    (found,) = rows(ledger, "race")
    assert (found.count, sum(counted)) == (12, 12)
    assert len(ledger.do(incidents.incident, str(found.id))["subjects"]) == 12  # type: ignore[index]


def test_the_second_sweep_waits_for_the_first_and_counts_what_is_left(ledger: Ledger) -> None:
    one, two = (subject(ledger.start({"one": ()})) for _ in range(2))

    def second() -> int:
        return count(ledger, incident("waits"), [one, two])

    with ledger.open() as first:
        assert incidents.count(first, incident("waits"), [one]) == 1
        with ledger.behind(lambda connection: _pid_then(connection, ledger, [one, two])) as waiting:
            waiting.until_blocked()
            first.commit()
            assert waiting.result() == 1
    assert [found.count for found in rows(ledger, "waits")] == [2]
    assert second() == 0


def _pid_then(connection: Any, ledger: Ledger, subjects: Sequence[Subject]) -> int:
    """Count on the very connection that is watched."""
    connection.exec_driver_sql("BEGIN")
    counted = incidents.count(connection, incident("waits"), subjects)
    connection.exec_driver_sql("COMMIT")
    return counted


def test_a_failure_that_is_known_opens_nothing_anew_after_its_incident_was_closed(ledger: Ledger) -> None:
    failed = subject(ledger.start({"one": ()}))
    assert count(ledger, incident("closed"), [failed]) == 1
    assert ledger.do(incidents.close, str(rows(ledger, "closed")[0].id), "ann", "mended")
    assert count(ledger, incident("closed"), [failed]) == 0
    assert len(rows(ledger, "closed")) == 1, "the incident that was opened for it is gone with the transaction"
    again = Subject(execution_id=failed.execution_id, path="one", at=NOW + timedelta(seconds=1))
    assert count(ledger, incident("closed"), [again]) == 1
    assert [found.closed_by for found in rows(ledger, "closed")] == ["ann", None]


def test_an_execution_that_fails_again_is_counted_again(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    assert [count(ledger, incident("again"), [subject(begun)]) for _ in range(2)] == [1, 0]
    assert count(ledger, incident("again"), [subject(begun, at=NOW + timedelta(seconds=1))]) == 1
    assert [found.count for found in rows(ledger, "again")] == [2]


@pytest.mark.parametrize(
    ("status", "category", "ago", "is_found"),
    [
        ("failed", "transient", 0, True),
        ("failed", "system", 3000, True),
        ("failed", "transient", 4000, False),
        ("failed", "business", 0, False),
        ("timed_out", "timeout", 0, True),
        ("cancelled", "cancelled", 0, False),
        ("compensated", "system", 0, True),
        ("compensated", "business", 0, False),
        ("compensation_failed", "business", 0, True),
    ],
)
def test_what_ended_unluckily_of_late_is_found_until_it_is_entered(
    ledger: Ledger, status: str, category: str, ago: float, is_found: bool
) -> None:
    begun = ledger.start({"one": ()})
    end(ledger, begun, status, category, ago)
    found = [row for row in ledger.do(troubles.failed, 1_000) if str(row["id"]) == begun.id]
    assert bool(found) == is_found
    if found:
        (row,) = found
        assert (row["path"], row["error"]["name"]) == ("one", "Busy")
        assert count(ledger, incident(f"ended {begun.id}"), [subject(begun, at=row["settled_at"])]) == 1
        assert begun.id not in {str(row["id"]) for row in ledger.do(troubles.failed, 1_000)}


def test_an_incident_is_resolved_once_all_its_executions_have_gone_on(ledger: Ledger) -> None:
    begun = [ledger.start({"one": ()}) for _ in range(2)]
    for one in begun:
        end(ledger, one, "failed")
    about = incident("gone on")
    assert count(ledger, about, [subject(one) for one in begun]) == 2
    for number, one in enumerate(begun):
        assert about.title not in resolve(ledger), number
        ledger.sql("UPDATE orchestrator.execution SET status = 'running', settled_at = NULL WHERE id = :e", e=one.id)
    assert about.title in resolve(ledger)
    (found,) = rows(ledger, "gone on")
    assert (found.closed_by, found.reason) == ("system", "its executions have all gone on")
    assert about.title not in resolve(ledger)


def test_a_failed_rollback_is_resolved_by_a_rollback_that_succeeds(ledger: Ledger) -> None:
    begun, about = ledger.start({"one": ()}), incident("undone", "compensation_failed")
    end(ledger, begun, "compensation_failed")
    assert count(ledger, about, [subject(begun)]) == 1
    assert about.title not in resolve(ledger)
    ledger.sql("UPDATE orchestrator.execution SET status = 'compensating', settled_at = NULL WHERE id = :e", e=begun.id)
    assert about.title in resolve(ledger)


def ready_on(ledger: Ledger, queue: str) -> Begun:
    """An execution whose step has been ready in a queue for a minute."""
    begun = ledger.start({"one": ()})
    ledger.sql("UPDATE orchestrator.step SET queue = :q WHERE execution_id = :e", q=queue, e=begun.id)
    ledger.age(begun, "ready_at", 60)
    return begun


def consume(ledger: Ledger, boot: str, queue: str, *, seen: float = 0) -> None:
    """A node that was last heard so many seconds ago."""
    ledger.sql(
        "INSERT INTO orchestrator.worker (boot_id, tenant, name, queues, children, pid, seen) "
        "VALUES (:b, 'default', :b, ARRAY[:q], '{}', 1, now() - CAST(:s AS float8) * interval '1 s')",
        b=boot,
        q=queue,
        s=seen,
    )


def unconsumed(ledger: Ledger, age: float = 30) -> dict[str, list[str]]:
    """queue -> executions."""
    found: dict[str, list[str]] = {}
    for row in ledger.do(troubles.unconsumed, age=age, silence=SILENCE, each=3):
        found.setdefault(row["queue"], []).append(str(row["id"]))
    return found


def test_a_queue_that_no_living_node_consumes_is_found_and_only_that(ledger: Ledger) -> None:
    for queue in ("z-lonely", "a-lonely", "served", "forsaken", "fresh"):
        begun = ready_on(ledger, queue)
        if queue == "fresh":
            ledger.age(begun, "ready_at", -60)
    more = [ready_on(ledger, "z-lonely") for _ in range(5)]
    consume(ledger, "living", "served")
    consume(ledger, "silent", "forsaken", seen=60)
    paused = ready_on(ledger, "paused-only")
    ledger.flag(paused, "pausing")
    ledger.sql("UPDATE orchestrator.execution SET status = 'paused' WHERE id = :e", e=paused.id)
    found = unconsumed(ledger)
    assert {"z-lonely", "a-lonely", "forsaken"} <= set(found)
    assert not {"served", "fresh", "paused-only"} & set(found)
    assert len(found["z-lonely"]) == 3
    assert more[-1].id not in found["z-lonely"], "the oldest come first"


def test_an_incident_of_a_queue_is_resolved_by_a_consumer_and_opened_again_without(ledger: Ledger) -> None:
    begun = ready_on(ledger, "left")
    about = incident("left", "queue_without_consumer", queue="left")
    assert count(ledger, about, [subject(begun)]) == 1
    assert about.title not in resolve(ledger)
    consume(ledger, "coming", "left")
    assert about.title in resolve(ledger)
    assert rows(ledger, "left")[0].reason == "the queue is consumed again"
    ledger.sql("UPDATE orchestrator.worker SET buried_at = now() WHERE boot_id = 'coming'")
    assert count(ledger, about, [subject(begun)]) == 1, "the same step waits again"
    ledger.claim(begun, "one")
    assert about.title in resolve(ledger)
    assert rows(ledger, "left")[1].reason == "nothing waits in the queue any more"


def test_a_step_that_no_worker_knows_is_found_while_it_is_retried_and_known_again_by_a_success(ledger: Ledger) -> None:
    target = ledger.target({"one": ()})
    begun, other = ledger.begin(target), ledger.begin(target)
    error = json.dumps({"name": "UnknownActivity"})
    ledger.do(failures.settle_retry, ledger.claim(begun, "one"), error, delay=30)
    (found,) = [row for row in ledger.do(troubles.unknown, 100) if str(row["id"]) == begun.id]
    about = incident("unknown", "unknown_on_workers", definition=target.graph.name, path="one")
    assert count(ledger, about, [subject(begun, at=found["settled_at"])]) == 1
    assert begun.id not in {str(row["id"]) for row in ledger.do(troubles.unknown, 100)}
    assert about.title not in resolve(ledger)
    ledger.succeed(other, "one")
    assert about.title in resolve(ledger)
    assert "succeeded since" in rows(ledger, "unknown")[0].reason


def test_drift_is_counted_up_and_closed_by_agreement(ledger: Ledger) -> None:
    about = incident("drift", "drift", diff="-a +b")
    race([lambda: ledger.do(incidents.raise_, about)] * 4)
    (found,) = rows(ledger, "drift")
    assert found.count == 4
    ledger.do(incidents.agrees, "default", ["other"])
    assert rows(ledger, "drift")[0].closed_at is None
    ledger.do(incidents.agrees, "default", ["drift", "other"])
    assert rows(ledger, "drift")[0].closed_by == "system"


def test_what_is_done_by_hand_is_done_once_and_audited(ledger: Ledger) -> None:
    count(ledger, incident("by hand"), [subject(ledger.start({"one": ()}))])
    found = str(rows(ledger, "by hand")[0].id)
    assert ledger.do(incidents.assign, found, "bob", "ann")
    assert sorted(race([lambda: ledger.do(incidents.close, found, "bob", "mended")] * 3)) == [False, False, True]
    assert not ledger.do(incidents.assign, found, "eve", "ann"), "it is closed"
    (row,) = rows(ledger, "by hand")
    assert (row.assignee, row.closed_by, row.reason) == ("bob", "bob", "mended")
    audit = ledger.sql(
        "SELECT actor, command, reason, parameters FROM orchestrator.audit WHERE parameters ->> 'incident' = :i "
        "ORDER BY id",
        i=found,
    )
    assert [tuple(entry)[:3] for entry in audit] == [
        ("ann", "assign incident", None),
        ("bob", "close incident", "mended"),
    ]
    assert audit[0].parameters["assignee"] == "bob"


def test_incidents_are_listed_by_whether_they_are_open_and_by_kind(ledger: Ledger) -> None:
    for kind in ("retries_exhausted", "compensation_failed"):
        count(ledger, incident(f"listed {kind}", kind), [subject(ledger.start({"one": ()}))])
    ledger.do(incidents.close, str(rows(ledger, "listed compensation_failed")[0].id), "ann", "mended")

    def titles(status: str, kind: str | None = None) -> set[str]:
        found = ledger.do(incidents.listed, tenant="default", status=status, kind=kind, limit=1_000)
        return {row["title"] for row in found if row["fingerprint"].startswith("listed")}

    opened, closed = "about listed retries_exhausted", "about listed compensation_failed"
    assert (titles("open"), titles("closed"), titles("all")) == ({opened}, {closed}, {opened, closed})
    assert titles("all", "compensation_failed") == {closed}
    assert ledger.do(incidents.listed, tenant="other", status="all", kind=None, limit=10) == []


def test_what_the_sweep_asks_goes_by_indexes(ledger: Ledger) -> None:
    """On a ledger with much that is well."""
    begun = ledger.start({"one": ()})
    ledger.sql(
        "INSERT INTO orchestrator.execution (id, tenant, definition_id, definition_name, definition_version, status, "
        "input, input_hash, settled_at) SELECT gen_random_uuid(), 'default', definition_id, definition_name, 1, "
        "'succeeded', '{}', '', now() FROM orchestrator.execution, generate_series(1, 20000) WHERE id = :e",
        e=begun.id,
    )
    ledger.sql(
        "INSERT INTO orchestrator.step (execution_id, path, tenant, status, queue, settled_at) "
        "SELECT gen_random_uuid(), 's', 'default', 'succeeded', 'q', now() FROM generate_series(1, 20000)"
    )
    ledger.sql("ANALYZE orchestrator.execution, orchestrator.step")
    asked: dict[str, tuple[TextClause, dict[str, Any]]] = {
        "execution_unlucky": (troubles.FAILED, {"limit": 500}),
        "step_due": (troubles.UNKNOWN, {"limit": 500}),
        "step_ready": (troubles.UNCONSUMED, {"age": 30, "silence": SILENCE, "each": 100}),
    }
    for index, (statement, parameters) in asked.items():
        plan = "\n".join(row[0] for row in ledger.sql(f"EXPLAIN {statement.text}", **parameters))
        assert index in plan, plan
        assert "Seq Scan on step" not in plan, plan
        assert "Seq Scan on execution" not in plan, plan
