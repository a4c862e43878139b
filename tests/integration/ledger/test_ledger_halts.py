"""Flag and drain against claims: once an execution has ended, nothing of it starts."""

from __future__ import annotations

from typing import Final

import pytest
from sqlalchemy import Connection

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.races import race, until
from orchestrator.ledger import claims, executions, failures, halts, owners, timers, undos
from orchestrator.ledger.claims import Claim, Settled

LINE: Final = {"first": (), "second": ("first",), "third": ("second",)}


def settle_and_claim(connection: Connection, held: Claim, following: str) -> Settled | None:
    return claims.settle_and_claim(
        connection, held, "1", following=following, queue=QUEUE, transactional=False, timeout=None
    )


def test_a_step_claimed_by_an_uncommitted_settle_is_waited_for_and_halted(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    held = ledger.claim(begun, "first")
    with ledger.open() as settling:
        assert settle_and_claim(settling, held, "second") == Settled(halted=False, claimed=True)
        ledger.flag(begun, "cancelling")
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            settling.commit()
            assert draining.result() == 1
    assert ledger.step(begun, "second").halt
    assert ledger.do(halts.end, begun.id) is None
    following = Claim(execution_id=begun.id, path="second", attempt=1, owner=OWNER)
    assert ledger.do(settle_and_claim, following, "third") == Settled(halted=True, claimed=False)
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) == "cancelled"
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "succeeded"}


def test_rows_inserted_by_an_uncommitted_settle_are_waited_for_and_cancelled(ledger: Ledger) -> None:
    begun = ledger.start({"first": (), "left": ("first",), "right": ("first",)})
    held = ledger.claim(begun, "first")
    with ledger.open() as settling:
        claims.settle_and_spread(settling, held, "1", successors=begun.successors("first"))
        ledger.flag(begun, "cancelling")
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            settling.commit()
            assert draining.result() == 0
    assert ledger.statuses(begun) == {"first": "succeeded", "left": "cancelled", "right": "cancelled"}
    assert ledger.do(halts.end, begun.id) == "cancelled"


def test_a_claim_that_is_uncommitted_while_the_drain_runs_is_halted(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    with ledger.open() as claiming:
        taken = claims.claim(claiming, begun.id, "first", owner=OWNER, transactional=False, timeout=None)
        assert taken is not None
        ledger.flag(begun, "cancelling")
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            claiming.commit()
            assert draining.result() == 1
    assert ledger.do(settle_and_claim, taken[0], "second") == Settled(halted=True, claimed=False)


def test_a_settle_that_waits_for_the_drain_sees_the_halt_although_its_snapshot_is_older(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    held = ledger.claim(begun, "first")
    with ledger.locked(begun) as halting, ledger.behind(lambda c: settle_and_claim(c, held, "second")) as settling:
        settling.until_blocked()
        ledger.flag(begun, "cancelling")
        halting.execute(halts.DRAIN, {"execution": begun.id, "inner": "", "container": ""})
        halting.commit()
        assert settling.result() == Settled(halted=True, claimed=False)
    assert ledger.step(begun, "second") is None


def test_no_flagged_execution_lets_a_step_be_claimed(ledger: Ledger) -> None:
    for flag in ("failing", "cancelling", "timing_out"):
        begun = ledger.start({"one": (), "two": ()})
        held = ledger.claim(begun, "one")
        ledger.flag(begun, flag)
        assert ledger.try_claim(begun, "two") is None
        assert ledger.do(settle_and_claim, held, "three") == Settled(halted=False, claimed=False)
        assert ledger.do(halts.drain, begun.id) == 0


def test_nothing_of_an_execution_starts_or_settles_after_its_end_under_stress(ledger: Ledger) -> None:
    begun = [
        ledger.start({f"{n}-{i}": (f"{n}-{i - 1}",) if i else () for n in "abc" for i in range(8)}) for _ in range(30)
    ]
    cancelled: list[str] = []

    def work(root: str, owner: str) -> None:
        for execution in begun:
            held = ledger.try_claim(execution, f"{root}-0", owner)
            while held is not None:
                following = execution.graph.fused(held.path)
                if following is None:
                    ledger.do(claims.settle_and_finish, held, "1", result="1")
                    break
                settled = ledger.do(settle_and_claim, held, following)
                held = (
                    Claim(execution_id=held.execution_id, path=following, attempt=1, owner=owner)
                    if settled is not None and settled.claimed
                    else None
                )

    def cancel() -> None:
        for execution in begun:
            until(lambda e=execution: worked_on(e) >= 3, "workers are in the midst of it")  # type: ignore[misc]
            flagged = ledger.sql(
                "UPDATE orchestrator.execution SET status = 'cancelling' WHERE id = :e AND status = 'running' "
                "RETURNING id",
                e=execution.id,
            )
            if flagged:
                until(lambda e=execution: end(e) == "cancelled", "running attempts have drained")  # type: ignore[misc]
                cancelled.append(execution.id)

    def worked_on(execution: Begun) -> int:
        return list(ledger.statuses(execution).values()).count("succeeded")

    def end(execution: Begun) -> str | None:
        ledger.do(halts.drain, execution.id)
        return ledger.do(halts.end, execution.id)

    race([lambda: work("a", OWNER), lambda: work("b", OTHER), lambda: work("c", "boot-c.303"), cancel])
    assert len(cancelled) > 5, "too few were caught at work"
    late = ledger.sql(
        "SELECT s.path, s.status FROM orchestrator.step s JOIN orchestrator.execution x ON x.id = s.execution_id "
        "WHERE x.status = 'cancelled' AND (s.settled_at IS NULL OR s.settled_at > x.settled_at)"
    )
    assert late == []
    for execution in begun:
        ledger.assert_unfinished_iff_open(execution)


def test_a_saga_does_not_begin_while_a_forward_step_runs(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()}, compensated=("one", "two"))
    ledger.succeed(begun, "one")
    two = ledger.claim(begun, "two", OTHER)
    assert not ledger.do(executions.flag_failing, begun.id, "{}")
    ledger.flag(begun, "failing")
    assert ledger.do(halts.drain, begun.id) == 1
    assert not ledger.do(halts.begin_undo, begun.id, [("one", QUEUE)])
    assert ledger.do(claims.settle_and_spread, two, "1", successors="[]") == Settled(halted=True)
    begin = [lambda: ledger.do(halts.begin_undo, begun.id, [("two", QUEUE), ("one", QUEUE)])] * 3
    assert sorted(race(begin)) == [False, False, True]


def test_a_saga_undoes_in_the_reverse_order_of_the_settling_events_whatever_the_clocks_said(ledger: Ledger) -> None:
    begun = ledger.start({"a": (), "b": (), "c": (), "d": ()}, compensated="abcd")
    for path in "cab":
        ledger.succeed(begun, path)
    ledger.sql(
        "UPDATE orchestrator.step SET settled_at = timestamptz '2020-01-01' - ascii(path) * interval '1 s' "
        "WHERE execution_id = :e AND status = 'succeeded'",
        e=begun.id,
    )
    failed = ledger.claim(begun, "d")
    ledger.do(failures.settle_failed, failed, "{}", outcome="failed")
    assert ledger.do(halts.drain, begun.id) == 0
    order = [found.path for found in ledger.do(halts.attempted, begun.id)]
    assert order == ["c", "a", "b", "d"]
    assert ledger.do(halts.begin_undo, begun.id, [(path, QUEUE) for path in ("b", "a", "c")])
    for path, following in (("b", ("undo:a",)), ("a", ("undo:c",)), ("c", ())):
        for other in "abc":
            assert other == path or ledger.try_claim(begun, f"undo:{other}") is None
        held = ledger.claim(begun, f"undo:{path}")
        settled = ledger.do(undos.settle_undo, held, outcome="succeeded", output="1", error=None)
        assert settled is not None
        assert settled.ready == following
    assert ledger.status(begun) == "compensated"


def test_a_failed_compensation_lets_the_others_go_on_and_shows_in_the_end(ledger: Ledger) -> None:
    begun = ledger.start({"a": (), "b": ()}, compensated="ab")
    ledger.succeed(begun, "a")
    ledger.succeed(begun, "b")
    assert ledger.do(executions.flag_failing, begun.id, "{}")
    assert ledger.do(halts.begin_undo, begun.id, [("b", QUEUE), ("a", QUEUE)])
    first = ledger.claim(begun, "undo:b")
    settled = ledger.do(undos.settle_undo, first, outcome="failed", output=None, error='{"name": "No"}')
    assert settled == Settled(halted=False, ready=("undo:a",))
    ledger.assert_unfinished_iff_open(begun)
    last = ledger.claim(begun, "undo:a")
    settled = ledger.do(undos.settle_undo, last, outcome="succeeded", output="1", error=None)
    assert settled == Settled(halted=False, finished="compensation_failed")
    ledger.assert_unfinished_iff_open(begun)


@pytest.mark.parametrize("drained", [False, True])
def test_a_retryable_failure_of_a_flagged_execution_is_failed_and_not_retrying(ledger: Ledger, drained: bool) -> None:
    begun = ledger.start({"one": (), "two": ()})
    one, two = ledger.claim(begun, "one"), ledger.claim(begun, "two")
    ledger.do(failures.settle_failed, two, "{}", outcome="failed")
    if drained:
        assert ledger.do(halts.drain, begun.id) == 1
    settled = ledger.do(failures.settle_retry, one, "{}", delay=0)
    assert settled == Settled(halted=drained, status="failed")
    assert (ledger.step(begun, "one").status, ledger.step(begun, "one").due_at) == ("failed", None)


def test_a_retry_settled_before_the_drain_is_cancelled_by_it(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    held = ledger.claim(begun, "one")
    with ledger.open() as settling:
        assert failures.settle_retry(settling, held, "{}", delay=0) == Settled(halted=False, status="retrying")
        ledger.flag(begun, "cancelling")
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            settling.commit()
            assert draining.result() == 0
    assert ledger.do(timers.due, 10) == []
    assert ledger.statuses(begun) == {"one": "cancelled"}
    assert ledger.do(halts.end, begun.id) == "cancelled"


def test_a_dead_owners_halted_step_is_cancelled_and_not_given_to_another(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()}, compensated=("one",))
    ledger.claim(begun, "one", "boot-dead.404")
    ledger.flag(begun, "cancelling")
    assert ledger.do(halts.drain, begun.id) == 1
    released = ledger.do(owners.release, "boot-dead.404")
    assert [(found.path, found.status) for found in released] == [("one", "cancelled")]
    assert ledger.do(halts.drain, begun.id) == 0
    # Its outcome is unknown: the saga is told of the attempt.
    assert [found.path for found in ledger.do(halts.attempted, begun.id)] == ["one"]


def test_an_execution_past_its_deadline_is_flagged_once_and_ends_timed_out(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()}, timeout=0.001)
    held = ledger.claim(begun, "one")
    found = race([lambda: ledger.do(timers.expire, 10)] * 4)
    assert sorted(found) == [[], [], [], [begun.id]]
    assert ledger.do(halts.drain, begun.id) == 1
    assert ledger.do(halts.end, begun.id) is None
    assert ledger.do(settle_and_claim, held, "three") == Settled(halted=True, claimed=False)
    ends = race([lambda: ledger.do(halts.end, begun.id)] * 4)
    assert sorted(ends, key=str) == [None, None, None, "timed_out"]
    assert ledger.statuses(begun) == {"one": "succeeded", "two": "cancelled"}
    assert ledger.events(begun, "execution_timed_out") == [("execution_timed_out", None, None)]
