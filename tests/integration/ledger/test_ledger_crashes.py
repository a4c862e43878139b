"""Steps that kill their workers: deaths are counted, and after so many the claim is not released but failed."""

from __future__ import annotations

from typing import Final

from ledger.driver import OTHER, QUEUE, Begun, Ledger
from ledger.races import race
from orchestrator.ledger import claims, failures, halts, owners, timers
from orchestrator.ledger.claims import Claim
from orchestrator.ledger.owners import Released

ERROR: Final = '{"category": "system", "name": "WorkerLost", "message": ""}'
MOST: Final = 3


def crashes(ledger: Ledger, begun: Begun, path: str = "one") -> int:
    return int(ledger.step(begun, path).crashes)


def release(ledger: Ledger, owner: str) -> list[Released]:
    return ledger.do(owners.release, owner, max_crashes=MOST)


def poisoned(ledger: Ledger, owner: str, steps: dict[str, tuple[str, ...]] | None = None) -> tuple[Begun, Claim]:
    """An execution whose step `one` has killed two owners, and the claim of the third."""
    begun = ledger.start(steps or {"one": ()})
    for number in (1, 2):
        ledger.claim(begun, "one", f"{owner}.{number}")
        assert [found.status for found in release(ledger, f"{owner}.{number}")] == ["ready"]
    return begun, ledger.claim(begun, "one", f"{owner}.3")


def test_deaths_are_counted_and_a_failed_attempt_between_them_does_not_set_the_count_back(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    ledger.claim(begun, "one", "crash-a.1")
    release(ledger, "crash-a.1")
    held = ledger.claim(begun, "one", OTHER)
    assert ledger.do(failures.settle_retry, held, ERROR, delay=0)
    ledger.do(timers.due, 100)
    ledger.claim(begun, "one", "crash-a.2")
    release(ledger, "crash-a.2")
    assert crashes(ledger, begun) == 2
    assert ledger.step(begun, "one").failures == 1


def test_a_step_that_would_die_once_too_often_stays_with_its_dead_owner_and_every_release_tells_of_it(
    ledger: Ledger,
) -> None:
    begun, held = poisoned(ledger, "crash-b")
    for _ in range(2):
        (found,) = release(ledger, "crash-b.3")
        assert (found.status, found.held, found.crashes) == ("running", held, MOST)
    row = ledger.step(begun, "one")
    assert (row.status, row.owner, row.attempt) == ("running", "crash-b.3", 3)
    assert ledger.events(begun, "step_released") == [("step_released", "one", 1), ("step_released", "one", 2)]


def test_of_several_that_fail_a_poison_step_with_its_dead_owners_token_one_writes(ledger: Ledger) -> None:
    begun, _ = poisoned(ledger, "crash-c")

    def act() -> bool:
        (found,) = release(ledger, "crash-c.3")
        assert found.held is not None
        return ledger.do(failures.settle_failed, found.held, ERROR, outcome="failed") is not None

    # A late actor finds the step settled, and nothing to release.
    def late() -> bool:
        try:
            return act()
        except ValueError:
            return False

    assert sorted(race([late] * 4)) == [False, False, False, True]
    assert ledger.statuses(begun) == {"one": "failed"}
    assert ledger.events(begun, "step_failed") == [("step_failed", "one", 3)]


def test_an_owner_that_was_only_thought_dead_may_settle_before_its_step_is_failed(ledger: Ledger) -> None:
    begun, held = poisoned(ledger, "crash-d")
    (found,) = release(ledger, "crash-d.3")
    assert ledger.do(claims.settle_and_finish, held, "1", result="1")
    assert found.held is not None
    assert ledger.do(failures.settle_failed, found.held, ERROR, outcome="failed") is None
    assert ledger.statuses(begun) == {"one": "succeeded"}


def test_a_poison_step_of_a_flagged_execution_is_cancelled(ledger: Ledger) -> None:
    begun, _ = poisoned(ledger, "crash-e")
    ledger.flag(begun, "cancelling")
    ledger.do(halts.drain, begun.id)
    assert [found.status for found in release(ledger, "crash-e.3")] == ["cancelled"]
    assert ledger.statuses(begun) == {"one": "cancelled"}


def test_a_flag_that_commits_while_a_release_waits_is_seen_by_it(ledger: Ledger) -> None:
    begun, _ = poisoned(ledger, "crash-f")
    ledger.flag(begun, "cancelling")
    with ledger.open() as flagging:
        flagging.execute(halts.DRAIN, {"execution": begun.id, "inner": "", "container": ""})
        with ledger.behind(lambda connection: owners.release(connection, "crash-f.3", max_crashes=MOST)) as releasing:
            releasing.until_blocked()
            flagging.commit()
            assert [found.status for found in releasing.result()] == ["cancelled"]


def test_a_release_waits_for_the_last_statement_of_an_owner_that_holds_a_poison_step(ledger: Ledger) -> None:
    begun, held = poisoned(ledger, "crash-g", {"one": (), "two": ("one",)})
    with ledger.open() as last:
        claims.settle_and_claim(last, held, "1", following="two", queue=QUEUE, transactional=False, timeout=None)
        with ledger.behind(lambda connection: owners.release(connection, "crash-g.3", max_crashes=MOST)) as releasing:
            releasing.until_blocked()
            last.commit()
            assert releasing.result() == []
    assert [(found.path, found.status) for found in release(ledger, "crash-g.3")] == [("two", "ready")]
    assert crashes(ledger, begun, "two") == 1


def test_an_owner_that_was_told_to_end_does_not_count_and_a_buried_one_does(ledger: Ledger) -> None:
    begun, _ = poisoned(ledger, "crash-h")
    for boot in ("crash-i", "crash-j"):
        ledger.do(owners.register, boot, tenant="default", name=boot, queues=[QUEUE], children=(), pid=1)
    assert [found.status for found in ledger.do(owners.release, "crash-h.3", max_crashes=MOST, died=False)] == ["ready"]
    ledger.claim(begun, "one", "crash-i.1")
    ledger.do(owners.stop, "crash-i")
    gone = ledger.do(owners.release_gone, max_crashes=MOST)
    assert [found.status for found in gone if found.execution_id == begun.id] == ["ready"]
    assert crashes(ledger, begun) == 2
    held = ledger.claim(begun, "one", "crash-j.1")
    ledger.sql("UPDATE orchestrator.worker SET buried_at = now() WHERE boot_id = 'crash-j'")
    gone = ledger.do(owners.release_gone, max_crashes=MOST)
    assert [(found.status, found.held) for found in gone if found.execution_id == begun.id] == [("running", held)]
    assert ledger.do(failures.settle_failed, held, ERROR, outcome="failed")


def test_without_a_limit_every_step_is_released(ledger: Ledger) -> None:
    begun, _ = poisoned(ledger, "crash-k")
    assert [found.status for found in ledger.do(owners.release, "crash-k.3")] == ["ready"]
    assert crashes(ledger, begun) == 3
