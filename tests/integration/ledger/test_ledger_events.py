"""Events, taken by whoever waits for them, and what comes first of a signal and a timer."""

from __future__ import annotations

import pytest

from ledger.driver import TENANT, Ledger
from ledger.races import race
from ledger.signalling import emit, insert, match, new_correlation, taken, wait, waiting
from orchestrator.engine import signal
from orchestrator.ledger import signals, timers

# --- events ---


def test_an_event_is_taken_once_by_every_execution_that_waits_for_it(ledger: Ledger) -> None:
    correlation = new_correlation()
    begun = [waiting(ledger, correlation=correlation) for _ in range(5)]
    other = waiting(ledger, correlation=new_correlation())
    plain = waiting(ledger)
    assert ledger.do(emit, correlation, "gone")
    found = ledger.do(signals.waiting_for_event, TENANT, "paid", correlation)
    assert sorted(found) == sorted((execution.id, "wait") for execution in begun)
    for execution in begun:
        assert sorted(race([lambda e=execution: match(ledger, e)] * 3)) == [[], [], ["wait"]]  # type: ignore[misc]
        assert taken(ledger, execution) == "gone"
    assert match(ledger, other) == match(ledger, plain) == []
    late = waiting(ledger, correlation=correlation)
    assert match(ledger, late) == ["wait"], "it came early, and counts"


def test_an_event_and_a_wait_that_do_not_see_each_other_find_each_other_after_their_commits(ledger: Ledger) -> None:
    correlation = new_correlation()
    begun = ledger.start({"wait": ()})
    held = ledger.claim(begun, "wait")
    with ledger.open() as sender, ledger.open() as waiter:
        emit(sender, correlation)
        wait(waiter, held, correlation=correlation)
        assert signals.waiting_for_event(sender, TENANT, "paid", correlation) == []
        assert signals.peek(waiter, begun.id, "wait") is None
        sender.commit()
        waiter.commit()
    assert ledger.do(signals.waiting_for_event, TENANT, "paid", correlation) == [(begun.id, "wait")]
    assert match(ledger, begun, "wait") == ["wait"]


def test_a_doubled_event_is_accepted_once(ledger: Ledger) -> None:
    correlation = new_correlation()
    accepted = race([lambda: ledger.do(emit, correlation, dedup="step-1")] * 6)
    assert sorted(accepted) == [False] * 5 + [True]
    assert ledger.do(emit, new_correlation(), dedup="step-1")


# --- against the timer ---


@pytest.mark.parametrize("correlated", [False, True])
def test_an_accepted_signal_comes_before_the_timer_although_nobody_has_matched_it(
    ledger: Ledger, correlated: bool
) -> None:
    correlation = new_correlation() if correlated else None
    begun = waiting(ledger, seconds=0, correlation=correlation)
    ledger.do(emit, correlation) if correlation else ledger.do(insert, begun)
    assert (begun.id, "wait") not in ledger.do(timers.due, 1_000)
    assert match(ledger, begun) == ["wait"]
    row = ledger.step(begun, "wait")
    assert (row.woken_by, row.due_at, row.awaits, row.wait_name, row.correlation) == ("signal", None, None, None, None)


def test_what_a_wait_does_not_take_does_not_hold_up_its_timer(ledger: Ledger) -> None:
    correlation = new_correlation()
    begun = [waiting(ledger, seconds=0), waiting(ledger, seconds=0, correlation=correlation)]
    used = ledger.start({"wait": ()})
    for execution in begun:
        ledger.do(insert, execution, name="shipped")
    ledger.do(emit, new_correlation())
    ledger.do(emit, correlation, "for an event only")
    ledger.do(insert, used)
    ledger.do(wait, ledger.claim(used, "wait"))
    assert match(ledger, used) == ["wait"]
    ledger.do(wait, ledger.claim(used, "wait"), seconds=0)
    found = ledger.do(timers.due, 1_000)
    assert {(begun[0].id, "wait"), (used.id, "wait")} <= set(found)
    assert (begun[1].id, "wait") not in found
    assert ledger.step(begun[0], "wait").woken_by == "due"


def test_of_a_signal_and_a_timer_that_meet_one_wakes_the_step_and_no_signal_is_used_up_for_nothing(
    ledger: Ledger,
) -> None:
    begun = [waiting(ledger, seconds=0) for _ in range(60)]

    def send() -> list[str]:
        return [e.id for e in begun if ledger.do(insert, e) and match(ledger, e)]

    def due() -> list[str]:
        return [id_ for _ in range(200) for id_, _ in ledger.do(timers.due, 1)]

    signalled, timed = race([send, due])
    assert sorted([*signalled, *timed]) == sorted(execution.id for execution in begun)
    delivered = ledger.sql(
        "SELECT CAST(execution_id AS text) FROM orchestrator.signal_delivery "
        "WHERE execution_id = ANY(CAST(:ids AS uuid[]))",
        ids=[execution.id for execution in begun],
    )
    assert sorted(row[0] for row in delivered) == sorted(signalled)
    for execution in begun:
        assert ledger.step(execution, "wait").woken_by == ("signal" if execution.id in signalled else "due")


def test_a_timer_that_is_uncommitted_keeps_the_signal_from_being_taken_for_it(ledger: Ledger) -> None:
    begun = waiting(ledger, seconds=0)
    with ledger.open() as timing:
        assert (begun.id, "wait") in timers.due(timing, 1_000)
        ledger.do(insert, begun)
        with ledger.behind(lambda c: signal.match(c, begun.graph, begun.id)) as matching:
            matching.until_blocked()
            timing.commit()
            assert matching.result() == []
    ledger.do(wait, ledger.claim(begun, "wait"))
    assert match(ledger, begun) == ["wait"], "it is still there"
