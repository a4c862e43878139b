"""Signals against the steps that wait for them: none lost, none taken twice, in the order of their coming."""

from __future__ import annotations

import pytest

from ledger.driver import OTHER, Begun, Ledger
from ledger.races import race
from ledger.signalling import emit, insert, match, new_correlation, received, taken, wait, waiting
from orchestrator.ledger import claims, executions, halts, signals
from orchestrator.model.identity import new_id

# --- signal against wait ---


def test_a_signal_and_a_wait_that_do_not_see_each_other_find_each_other_after_their_commits(ledger: Ledger) -> None:
    begun = ledger.start({"wait": ()})
    held = ledger.claim(begun, "wait")
    with ledger.open() as sender, ledger.open() as waiter:
        insert(sender, begun)
        wait(waiter, held)
        assert signals.peek(sender, begun.id, None) is None
        assert signals.peek(waiter, begun.id, "wait") is None
        sender.commit()
        waiter.commit()
    assert sorted(race([lambda: match(ledger, begun), lambda: match(ledger, begun, "wait")])) == [[], ["wait"]]
    assert taken(ledger, begun) == 1


@pytest.mark.parametrize("first", ["signal", "wait"])
def test_whoever_commits_last_of_a_signal_and_a_wait_wakes(ledger: Ledger, first: str) -> None:
    begun = ledger.start({"wait": ()})
    held = ledger.claim(begun, "wait")
    with ledger.open() as late:
        if first == "signal":
            wait(late, held)
            assert ledger.do(insert, begun)
        else:
            insert(late, begun)
            ledger.do(wait, held)
        assert match(ledger, begun) == []
        late.commit()
    assert match(ledger, begun) == ["wait"]


def test_no_signal_is_lost_in_hundreds_of_races_with_the_wait_for_it(ledger: Ledger) -> None:
    begun = [ledger.start({"wait": ()}) for _ in range(300)]
    held = [ledger.claim(execution, "wait") for execution in begun]

    def send() -> list[list[str]]:
        return [match(ledger, execution) for execution in begun if ledger.do(insert, execution, execution.id)]

    def park() -> list[list[str]]:
        woken = []
        for execution, claim in zip(begun, held, strict=True):
            ledger.do(wait, claim)
            woken.append(match(ledger, execution, "wait"))
        return woken

    sent, parked = race([send, park])
    assert [one + other for one, other in zip(sent, parked, strict=True)] == [["wait"]] * len(begun)
    assert [taken(ledger, execution) for execution in begun] == [execution.id for execution in begun]


def test_early_signals_are_kept_and_taken_in_the_order_of_their_coming(ledger: Ledger) -> None:
    begun = ledger.start({"wait": ()})
    for payload in ("one", "two", "three"):
        ledger.do(insert, begun, payload)
    found = []
    for _ in range(3):
        ledger.do(wait, ledger.claim(begun, "wait"))
        assert match(ledger, begun) == ["wait"]
        found.append(taken(ledger, begun))
    assert found == ["one", "two", "three"]
    ledger.do(wait, ledger.claim(begun, "wait"))
    assert match(ledger, begun) == []


def test_two_waits_take_one_signal_once_and_two_signals_one_each(ledger: Ledger) -> None:
    for _ in range(20):
        begun = waiting(ledger, "left", "right")
        ledger.do(insert, begun, "first")
        woken = race([lambda p=path, b=begun: match(ledger, b, p) for path in ("left", "right", None, None)])  # type: ignore[misc]
        assert len([path for paths in woken for path in paths]) == 1
        ledger.do(insert, begun, "second")
        race([lambda p=path, b=begun: match(ledger, b, p) for path in ("left", "right")])  # type: ignore[misc]
        assert {taken(ledger, begun, path) for path in ("left", "right")} == {"first", "second"}


def test_a_doubled_signal_is_accepted_once_however_many_send_it_at_once(ledger: Ledger) -> None:
    begun = waiting(ledger, "left", "right")
    accepted = race([lambda: ledger.do(insert, begun, dedup="payment-1")] * 6)
    assert sorted(map(bool, accepted)) == [False] * 5 + [True]
    assert None not in accepted, "a double is no refusal"
    assert len(match(ledger, begun)) == 1
    assert received(ledger, begun) == 1
    assert len(ledger.events(begun, "signal_received")) == 1
    other = ledger.start({"wait": ()})
    assert ledger.do(insert, other, dedup="payment-1"), "the id is the sender's for this execution and name only"
    assert ledger.do(insert, begun, name="shipped", dedup="payment-1")


@pytest.mark.parametrize("kept", [True, False])
def test_a_double_of_an_uncommitted_signal_waits_for_its_fate(ledger: Ledger, kept: bool) -> None:
    begun = ledger.start({"wait": ()})
    with ledger.open() as sending:
        assert insert(sending, begun, dedup="payment-1")
        with ledger.behind(lambda c: insert(c, begun, dedup="payment-1")) as double:
            double.until_blocked()
            sending.commit() if kept else sending.rollback()
            assert double.result() is not kept
    assert received(ledger, begun) == 1


def test_a_signal_is_not_taken_for_a_wait_that_has_begun_since_it_was_found(ledger: Ledger) -> None:
    begun = waiting(ledger, seconds=0)
    ledger.do(insert, begun)
    found = ledger.do(signals.peek, begun.id, None)
    assert found is not None
    ledger.sql(
        "UPDATE orchestrator.step SET wait_name = 'shipped' WHERE execution_id = :e AND path = 'wait'", e=begun.id
    )
    assert not ledger.do(signals.take, begun.id, found)
    assert (ledger.step(begun, "wait").status, match(ledger, begun)) == ("waiting", [])


# --- what is not taken ---


def test_a_refused_signal_is_recorded_and_passes_by(ledger: Ledger) -> None:
    begun = waiting(ledger)
    ledger.do(insert, begun, "bad")
    ledger.do(insert, begun, "good")
    found = ledger.do(signals.peek, begun.id, None)
    assert found is not None
    assert (found.path, found.name, found.payload) == ("wait", "paid", "bad")
    race([lambda: ledger.do(signals.refuse, begun.id, found, "not what was agreed")] * 3)
    assert match(ledger, begun) == ["wait"]
    assert taken(ledger, begun) == "good"
    ledger.do(signals.refused, begun.id, "shipped", "somebody", "never accepted")
    noted = ledger.sql(
        "SELECT path, data FROM orchestrator.event WHERE execution_id = :e AND type = 'signal_refused' ORDER BY id",
        e=begun.id,
    )
    assert [tuple(row) for row in noted] == [
        ("wait", {"signal": found.signal_id, "name": "paid", "reason": "not what was agreed"}),
        (None, {"name": "shipped", "actor": "somebody", "reason": "never accepted"}),
    ]


def test_what_a_dead_sender_left_is_found_after_a_while_and_nothing_else(ledger: Ledger) -> None:
    correlation = new_correlation()
    begun = {
        "signal": waiting(ledger),
        "event": waiting(ledger, correlation=correlation),
        "nothing": waiting(ledger),
        "another name": waiting(ledger, name="shipped"),
        "halted": waiting(ledger),
    }
    for name in ("signal", "another name", "halted"):
        ledger.do(insert, begun[name])
    ledger.do(emit, correlation)
    ledger.flag(begun["halted"], "cancelling")
    ledger.do(halts.drain, begun["halted"].id)
    ids = {execution.id: name for name, execution in begun.items()}

    def found() -> set[str]:
        return {ids[id_] for id_, _ in ledger.do(signals.unmatched, 1_000) if id_ in ids}

    assert found() == set(), "too young"
    for execution in begun.values():
        ledger.age(execution, "ready_at")
    assert found() == {"signal", "event"}
    for name in ("signal", "event"):
        assert match(ledger, begun[name], "wait") == ["wait"]
    assert found() == set()


def test_a_halted_wait_takes_no_signal(ledger: Ledger) -> None:
    begun = waiting(ledger)
    ledger.do(insert, begun)
    found = ledger.do(signals.peek, begun.id, None)
    assert found is not None
    with ledger.open() as draining:
        ledger.flag(begun, "cancelling")
        halts.drain(draining, begun.id)
        with ledger.behind(lambda c: signals.take(c, begun.id, found)) as taking:
            taking.until_blocked()
            draining.commit()
            assert not taking.result()
    assert ledger.statuses(begun) == {"wait": "cancelled"}
    assert ledger.sql("SELECT FROM orchestrator.signal_delivery WHERE execution_id = :e", e=begun.id) == []


# --- against the execution's end ---


def test_a_signal_to_an_execution_that_is_ending_waits_for_its_end_and_is_not_accepted(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    held = ledger.claim(begun, "one")
    with ledger.open() as ending:
        settled = claims.settle_and_finish(ending, held, "1", result="1")
        assert settled is not None
        assert settled.finished == "succeeded"
        with ledger.behind(lambda c: insert(c, begun)) as sending:
            sending.until_blocked()
            ending.commit()
            assert sending.result() is None
    assert (received(ledger, begun), ledger.events(begun, "signal_received")) == (0, [])
    assert ledger.do(insert, begun) is None


def test_an_execution_ends_after_a_signal_that_is_being_accepted(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    ledger.do(claims.settle_and_spread, ledger.claim(begun, "one", OTHER), "1", successors="[]")
    with ledger.open() as sending:
        assert insert(sending, begun)
        with ledger.behind(lambda c: executions.finish(c, begun.id, "1")) as ending:
            ending.until_blocked()
            sending.commit()
            assert ending.result()
    assert [kind for kind, _, _ in ledger.events(begun)][-2:] == ["signal_received", "execution_succeeded"]


def test_a_signal_that_stands_does_not_keep_two_others_from_being_accepted_at_once(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()})
    with ledger.open() as first:
        assert insert(first, begun)
        assert ledger.do(insert, begun), "FOR SHARE: senders do not wait for each other"
        first.commit()
    assert received(ledger, begun) == 2


def test_nobody_unknown_is_sent_to(ledger: Ledger) -> None:
    unknown = Begun(id=str(new_id()), graph=ledger.start({"one": ()}).graph)
    assert ledger.do(insert, unknown) is None
    assert received(ledger, unknown) == 0
