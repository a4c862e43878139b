"""What `restored` does to the rows of a ledger that is older than the world."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.driver import OWNER, Ledger
from orchestrator import Orchestrator, RetryPolicy, delay, parallel, step, subworkflow, wait, workflow
from orchestrator.errors import WorkersAlive
from orchestrator.ledger import definitions, owners

ANN: dict[str, Any] = {"actor": "ann", "reason": "the disk"}
#: What nothing in this process is registered under, and so may have done anything.
STRANGE = "strange_activity"

DEFINITIONS = [
    workflow("restored-safe", step("only", "transform", {"value": 1}), timeout=600),
    workflow("restored-strange", step("first", STRANGE), step("second", "transform", {"value": 1})),
    workflow("restored-waiting", step("first", STRANGE), wait("answer", "answer")),
    workflow(
        "restored-retried",
        step("safe", "transform", {"value": 1}),
        step("first", STRANGE),
        execution_retry=RetryPolicy(max_attempts=3, backoff=3600, max_delay=3600, jitter=0),
    ),
    workflow(
        "restored-retried-safe",
        step("only", "transform", {"value": 1}),
        execution_retry=RetryPolicy(max_attempts=3, backoff=3600, max_delay=3600, jitter=0),
    ),
    workflow("restored-around", subworkflow("child", "restored-retried")),
    workflow("restored-wide", parallel(step("left", STRANGE), step("right", STRANGE)), delay("end", 1)),
]


@pytest.fixture(scope="module")
def orchestrator(ledger_url: str) -> Iterator[Orchestrator]:
    found = Orchestrator(database_url=ledger_url, broker_url="memory://", pool_size=4)
    with found.core.database.connect() as connection:
        for each in DEFINITIONS:
            definitions.publish(connection, "default", each.definition)
    yield found
    found.core.database.dispose()


def execution(ledger: Ledger, handle: Any, columns: str) -> Any:
    return ledger.sql(f"SELECT {columns} FROM orchestrator.execution WHERE id = :id", id=handle.id)[0]


def silent_node(ledger: Ledger, boot_id: str, ago: float) -> None:
    ledger.do(owners.register, boot_id, tenant="default", name=f"n-{boot_id}", queues=["q"], children=[], pid=1)
    ledger.sql(
        "UPDATE orchestrator.worker SET seen = now() - CAST(:ago AS float8) * interval '1 s' WHERE boot_id = :id",
        id=boot_id,
        ago=ago,
    )


def run(ledger: Ledger, handle: Any, path: str) -> None:
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'running', owner = :owner, attempt = 1, ready_xid = NULL "
        "WHERE execution_id = :id AND path = :path",
        owner=OWNER,
        id=handle.id,
        path=path,
    )


def to_be_retried(ledger: Ledger, handle: Any, path: str) -> None:
    """Have its step failed for good, and the whole of it due to be retried by itself in an hour."""
    run(ledger, handle, path)
    failed = "status = 'failed', settled_at = now()"
    for statement in (
        f"UPDATE orchestrator.step SET {failed}, owner = NULL WHERE execution_id = :id",
        "UPDATE orchestrator.execution SET status = 'failing' WHERE id = :id",
        f"UPDATE orchestrator.execution SET {failed}, retry_at = now() + interval '1 h' WHERE id = :id",
    ):
        ledger.sql(statement, id=handle.id)


def test_it_is_refused_while_a_node_lives_and_nothing_is_changed(orchestrator: Orchestrator, ledger: Ledger) -> None:
    handle = orchestrator.start("restored-strange")
    silent_node(ledger, "boot-living", 1)
    with pytest.raises(WorkersAlive, match=r"worker node n-boot-living was heard 1\.\d s ago: end all workers"):
        orchestrator.restored(**ANN)
    assert handle.status() == "running"
    ledger.sql("UPDATE orchestrator.worker SET stopped_at = now()")
    orchestrator.restored(**ANN)
    assert handle.status() == "paused"


def test_a_dead_owners_step_is_taken_back_without_counting_a_crash(orchestrator: Orchestrator, ledger: Ledger) -> None:
    handle = orchestrator.start("restored-safe")
    silent_node(ledger, "boot-a", 3_600)
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'running', owner = :owner, attempt = 1, ready_xid = NULL "
        "WHERE execution_id = :id",
        owner=OWNER,
        id=handle.id,
    )
    assert orchestrator.restored(**ANN).released == 1
    found = ledger.sql("SELECT status, owner, crashes FROM orchestrator.step WHERE execution_id = :id", id=handle.id)
    assert found == [("ready", None, 0)]
    assert handle.status() == "running"


def test_time_has_stood_still(orchestrator: Orchestrator, ledger: Ledger) -> None:
    handle = orchestrator.start("restored-safe")
    was = execution(ledger, handle, "deadline")[0]
    ledger.sql("UPDATE orchestrator.event SET at = at - interval '1 h'")
    ledger.sql("UPDATE orchestrator.audit SET at = at - interval '1 h'")
    ledger.sql("UPDATE orchestrator.worker SET seen = seen - interval '1 h'")
    told = orchestrator.restored(**ANN)
    assert 3_600 <= told.stood_still < 3_700
    later = execution(ledger, handle, "deadline")[0] - was
    assert abs(later.total_seconds() - told.stood_still) < 1
    assert orchestrator.restored(**ANN).stood_still < 60, "the same time is not counted twice"


def test_what_is_ready_can_be_found_overtaken_again(orchestrator: Orchestrator, ledger: Ledger) -> None:
    """Another cluster may be far behind in its transaction ids."""
    handle = orchestrator.start("restored-safe")
    ledger.sql("UPDATE orchestrator.step SET ready_xid = '9000000000000' WHERE execution_id = :id", id=handle.id)
    ledger.sql("INSERT INTO orchestrator.probe (tenant, queue) VALUES ('default', 'anywhere')")
    orchestrator.restored(**ANN)
    visible = "SELECT pg_visible_in_snapshot(ready_xid, pg_current_snapshot()) FROM orchestrator.step"
    assert ledger.sql(f"{visible} WHERE execution_id = :id", id=handle.id) == [(True,)]
    assert ledger.sql("SELECT count(*) FROM orchestrator.probe") == [(0,)]


def test_what_was_to_begin_since_may_have_and_what_is_to_begin_later_has_not(
    orchestrator: Orchestrator, ledger: Ledger
) -> None:
    soon, later = datetime.now(UTC) + timedelta(minutes=5), datetime.now(UTC) + timedelta(days=2)
    begun, to_come = (orchestrator.start("restored-strange", start_at=at) for at in (soon, later))
    orchestrator.maintenance(True, **ANN)
    kept = orchestrator.start("restored-strange")
    safe = orchestrator.start("restored-safe")
    ledger.sql("UPDATE orchestrator.execution SET start_at = now() - interval '1 m' WHERE id = :id", id=begun.id)
    orchestrator.restored(**ANN)
    orchestrator.maintenance(False, **ANN)
    assert [handle.status() for handle in (begun, kept, to_come, safe)] == ["paused", "paused", "created", "created"]
    waiting = ledger.sql("SELECT status, due_at FROM orchestrator.step WHERE execution_id = :id", id=kept.id)
    assert waiting[0][0] == "waiting"
    assert waiting[0][1] is not None, "once it is resumed, it begins"


def test_only_what_is_not_settled_is_doubted(orchestrator: Orchestrator, ledger: Ledger) -> None:
    behind, half = orchestrator.start("restored-waiting"), orchestrator.start("restored-wide")
    for handle, path in ((behind, "first"), (half, "left")):
        ledger.sql(
            "UPDATE orchestrator.step SET status = 'skipped', settled_at = now(), ready_xid = NULL "
            "WHERE execution_id = :id AND path = :path",
            id=handle.id,
            path=path,
        )
    told = orchestrator.restored(**ANN)
    assert (behind.status(), half.status()) == ("running", "paused")
    assert [held.steps for held in told.held if held.definition == "restored-wide"] == [("right",)]
    (pause,) = [entry for entry in orchestrator.audit(half.id) if entry.command == "pause"]
    assert (pause.actor, pause.reason) == ("ann", "restored from a backup; this may have been done since: right")
    (entry,) = [entry for entry in orchestrator.audit(limit=1_000) if entry.command == "restored"][:1]
    assert (entry.actor, entry.reason) == ("ann", "the disk")


def test_what_was_to_be_retried_by_itself_is_and_waits_for_a_person(orchestrator: Orchestrator, ledger: Ledger) -> None:
    handle, safe = orchestrator.start("restored-retried"), orchestrator.start("restored-retried-safe")
    to_be_retried(ledger, handle, "safe")
    to_be_retried(ledger, safe, "only")
    planned = orchestrator.restored(dry_run=True, **ANN)
    assert (handle.status(), safe.status()) == ("failed", "failed")
    told = orchestrator.restored(**ANN)
    assert planned.held == told.held
    assert {held.definition: held.steps for held in told.held}["restored-retried"] == ("first",)
    assert (handle.status(), safe.status()) == ("paused", "failed")
    assert execution(ledger, handle, "retries, retry_at") == (1, None)
    assert execution(ledger, safe, "retry_at")[0] is not None, "the sweep retries it when its time has come"
    assert {entry.command for entry in orchestrator.audit(handle.id)} == {"retry", "pause"}
    (row,) = ledger.sql("SELECT path, status FROM orchestrator.step WHERE execution_id = :id", id=handle.id)
    assert tuple(row) == ("safe", "ready"), "it goes on once it is resumed"


def test_a_child_that_was_to_be_retried_waits_with_its_parent(orchestrator: Orchestrator, ledger: Ledger) -> None:
    parent = orchestrator.start("restored-around")
    child = orchestrator.start("restored-retried")
    ledger.sql(
        "UPDATE orchestrator.execution SET parent_id = :parent, parent_path = 'child' WHERE id = :id",
        parent=parent.id,
        id=child.id,
    )
    run(ledger, parent, "child")
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'waiting', awaits = 'child', wait_name = :child, owner = NULL, "
        "resume = jsonb_build_object('child', CAST(:child AS text)) WHERE execution_id = :id",
        child=child.id,
        id=parent.id,
    )
    to_be_retried(ledger, child, "safe")
    orchestrator.restored(**ANN)
    assert (parent.status(), child.status()) == ("paused", "paused")


def test_what_was_paused_before_is_told_of_too_and_a_dry_run_changes_nothing(
    orchestrator: Orchestrator, ledger: Ledger
) -> None:
    paused, running = orchestrator.start("restored-strange"), orchestrator.start("restored-strange")
    orchestrator.pause(paused.id, actor="bob", reason="my own")
    before = ledger.sql("SELECT count(*), max(id) FROM orchestrator.event")
    told = orchestrator.restored(dry_run=True, **ANN)
    assert ledger.sql("SELECT count(*), max(id) FROM orchestrator.event") == before
    assert running.status() == "running"
    done = orchestrator.restored(**ANN)
    assert told.held == done.held
    (incident,) = [
        one for one in orchestrator.incidents(kind="restored") if one["detail"]["definition"] == "restored-strange"
    ]
    about = {str(subject["execution_id"]) for subject in orchestrator.incident(str(incident["id"]))["subjects"]}
    assert {paused.id, running.id} <= about
    assert [entry.actor for entry in orchestrator.audit(paused.id)] == ["bob"]


def test_histories_still_fold_to_their_rows(orchestrator: Orchestrator, ledger: Ledger) -> None:
    handles = [orchestrator.start("restored-strange") for _ in range(3)]
    orchestrator.restored(**ANN)
    for handle in handles:
        assert not orchestrator.replay(handle.id).differences
    orchestrator.resume(handles[0].id, actor="ann")
    assert handles[0].status() == "running"
