"""Attempts, as the history tells of them, and the time that failing has taken."""

from __future__ import annotations

import json
from typing import Final

from ledger.driver import OTHER, OWNER, Begun, Ledger
from orchestrator.ledger import attempts, claims, failures, halts, owners, timers
from orchestrator.ledger.attempts import AttemptRecord

ERROR: Final = {"category": "transient", "name": "Busy", "message": "busy", "traceback": "line 1"}


def fail_and_wait(ledger: Ledger, begun: Begun, path: str = "one", owner: str = OWNER) -> None:
    """An attempt that fails, and is over its wait."""
    held = ledger.claim(begun, path, owner)
    settled = ledger.do(failures.settle_retry, held, json.dumps(ERROR), delay=0)
    assert settled is not None
    assert settled.status == "retrying"
    ledger.do(timers.due, 100)


def shown(found: list[AttemptRecord]) -> list[tuple[str, int, str | None, str | None]]:
    return [(each.path, each.attempt, each.owner, each.ended) for each in found]


def test_attempts_are_told_in_order_with_owner_times_outcome_and_error(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "other": ()})
    fail_and_wait(ledger, begun)
    ledger.claim(begun, "one", "dead.77")
    ledger.do(owners.release, "dead.77")
    ledger.succeed(begun, "one", OTHER)
    ledger.claim(begun, "other")
    found = ledger.do(attempts.attempts, begun.id)
    assert shown(found) == [
        ("one", 1, OWNER, "retrying"),
        ("one", 2, "dead.77", "released"),
        ("one", 3, OTHER, "succeeded"),
        ("other", 1, OWNER, None),
    ]
    failed, released, succeeded, running = found
    assert failed.error == ERROR
    assert failed.ended_at is not None
    assert failed.next_at is not None
    assert failed.started_at <= failed.ended_at <= released.started_at <= succeeded.started_at
    assert failed.next_at <= released.started_at
    assert (running.ended_at, succeeded.error, succeeded.next_at) == (None, None, None)
    assert ledger.do(attempts.attempts, begun.id, "other") == [running]


def test_an_owner_that_came_back_is_told_of_but_changes_no_outcome(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    late = ledger.claim(begun, "one", "late.1")
    ledger.do(owners.release, "late.1")
    ledger.do(claims.record_fenced, late)
    held = ledger.claim(begun, "one")
    assert ledger.do(failures.settle_failed, held, json.dumps(ERROR), outcome="failed")
    ledger.do(claims.record_fenced, held)
    fenced, failed = ledger.do(attempts.attempts, begun.id)
    assert (fenced.ended, failed.ended) == ("fenced", "failed")
    assert failed.error == ERROR


def test_a_step_that_is_cancelled_between_two_attempts_keeps_the_outcome_of_the_last(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()})
    held = ledger.claim(begun, "one")
    assert ledger.do(failures.settle_retry, held, json.dumps(ERROR), delay=3600)
    ledger.flag(begun, "cancelling")
    ledger.do(halts.drain, begun.id)
    assert ledger.statuses(begun) == {"one": "cancelled", "two": "cancelled"}
    assert shown(ledger.do(attempts.attempts, begun.id)) == [("one", 1, OWNER, "retrying")]


def test_a_history_longer_than_a_page_is_read_whole(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    events = attempts.PAGE + 3
    ledger.sql(
        "INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt, data) "
        "SELECT :e, 'default', 'step_started', 'one', n, '{}' FROM generate_series(1, :n) AS n",
        e=begun.id,
        n=events,
    )
    assert len(ledger.do(attempts.attempts, begun.id)) == events


def test_failing_is_counted_from_the_beginning_of_the_first_failed_attempt(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    ledger.claim(begun, "one", "dead.78")
    ledger.age(begun, "started_at", 5_000)
    ledger.do(owners.release, "dead.78")
    held = ledger.claim(begun, "one")
    assert ledger.do(failures.failing_for, held) < 1_000, "an attempt that died is no failure"
    ledger.age(begun, "started_at", 2_000)
    began = ledger.step(begun, "one").started_at
    assert ledger.do(failures.settle_retry, held, json.dumps(ERROR), delay=0)
    assert ledger.step(begun, "one").failing_since == began
    ledger.do(timers.due, 100)
    fail_and_wait_again = ledger.claim(begun, "one")
    assert 2_000 <= ledger.do(failures.failing_for, fail_and_wait_again) < 4_000
    assert ledger.do(failures.settle_retry, fail_and_wait_again, json.dumps(ERROR), delay=0)
    assert ledger.step(begun, "one").failing_since == began
