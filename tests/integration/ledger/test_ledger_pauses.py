"""Operators' commands against claims, settles, signals and each other, in races that are forced: none gets halfway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import Connection, text

from ledger import signalling
from ledger.driver import OTHER, OWNER, QUEUE, TENANT, Begun, Ledger
from ledger.races import Background, race, until
from orchestrator import Orchestrator
from orchestrator.compiler.reopen import reopen, undo_again
from orchestrator.engine import start as starting
from orchestrator.engine.start import Options
from orchestrator.ledger import (
    claims,
    controls,
    executions,
    failures,
    halts,
    joins,
    maintenance,
    owners,
    parks,
    reopens,
    signals,
    timers,
    undos,
)
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.controls import By
from orchestrator.ledger.reopens import Standing
from orchestrator.model.reopened import Reopened

ANN: Final = By(actor="ann", reason="a test")
LINE: Final = {"first": (), "second": ("first",), "third": ("second",)}
#: Held by a test while statements of a `late` connection are to come to their rows late.
GATE: Final = 4711

#: A statement on steps takes its snapshot, and then waits at the gate before it looks for its rows.
_LATE = f"""
CREATE FUNCTION public.come_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tests.late', true) = 'on' THEN
        PERFORM pg_advisory_lock_shared({GATE});
        PERFORM pg_advisory_unlock_shared({GATE});
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER late BEFORE UPDATE ON orchestrator.step FOR EACH STATEMENT EXECUTE FUNCTION public.come_late()
"""


@pytest.fixture(scope="module", autouse=True)
def _late(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql(_LATE)


@contextmanager
def late(ledger: Ledger, work: Callable[[Connection], Any]) -> Iterator[tuple[Background[Any], Callable[[], None]]]:
    """Work whose snapshot is taken when this is entered, and that comes to its rows once the second is called."""
    with ledger.open() as gate:
        gate.execute(text(f"SELECT pg_advisory_xact_lock({GATE})"))

        def come_late(connection: Connection) -> Any:
            connection.execute(text("SET tests.late = 'on'"))
            try:
                return work(connection)
            finally:
                connection.execute(text("SET tests.late = 'off'"))

        with ledger.behind(come_late) as working:
            working.until_blocked()
            yield working, gate.commit


def claim(connection: Connection, begun: Begun, path: str, owner: str = OWNER) -> Claim | None:
    found = claims.claim(connection, begun.id, path, owner=owner, transactional=False, timeout=None)
    return None if found is None else found[0]


def settle_and_claim(connection: Connection, held: Claim, following: str = "second") -> Settled | None:
    return claims.settle_and_claim(
        connection, held, "1", following=following, queue=QUEUE, transactional=False, timeout=None
    )


def following(held: Claim, path: str) -> Claim:
    """The claim that a settle made."""
    return Claim(execution_id=held.execution_id, path=path, attempt=1, owner=held.owner)


def paused(ledger: Ledger, begun: Begun) -> None:
    assert ledger.do(controls.pause, begun.id, ANN)
    assert ledger.do(controls.settle_pause, begun.id)
    assert ledger.status(begun) == "paused"


def complete(
    connection: Connection, begun: Begun, path: str, *, stood: str = "waiting", seen: int = 1
) -> list[str] | None:
    return controls.complete(
        connection, begun.id, path, '"by hand"', seen=seen, stood=stood, successors=begun.successors(path), by=ANN
    )


def audited(ledger: Ledger, begun: Begun) -> list[str]:
    rows = ledger.sql("SELECT command FROM orchestrator.audit WHERE execution_id = :e ORDER BY id", e=begun.id)
    return [row[0] for row in rows]


# --- pausing against claims ---


def test_a_claim_that_is_uncommitted_while_a_pause_is_settled_is_waited_for_and_seen(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    with ledger.open() as claiming:
        held = claim(claiming, begun, "first")
        assert held is not None
        assert ledger.do(controls.pause, begun.id, ANN)
        with ledger.behind(lambda c: controls.settle_pause(c, begun.id)) as settling:
            settling.until_blocked()
            claiming.commit()
            assert settling.result() is False
    assert ledger.status(begun) == "pausing"
    assert ledger.do(settle_and_claim, held) == Settled(halted=False, claimed=False)
    assert ledger.do(controls.settle_pause, begun.id)
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "ready"}
    assert ledger.try_claim(begun, "second") is None
    assert ledger.do(controls.resume, begun.id, ANN)
    ledger.claim(begun, "second")
    assert audited(ledger, begun) == ["pause", "resume"]


@pytest.mark.parametrize("before", ["ready", "released", "retrying"])
def test_a_claim_sent_before_a_pause_that_comes_to_its_row_after_it_gets_nothing(ledger: Ledger, before: str) -> None:
    begun = ledger.start({"first": ()})
    with late(ledger, lambda c: claim(c, begun, "first", OTHER)) as (claiming, let_it_come):
        if before != "ready":
            # What it is to claim has been another's meanwhile.
            held = ledger.claim(begun, "first", "boot-dead.404")
            if before == "released":
                ledger.do(owners.release, "boot-dead.404")
            else:
                ledger.do(failures.settle_retry, held, "{}", delay=0)
        paused(ledger, begun)
        if before == "retrying":
            until(lambda: bool(ledger.do(timers.due, 10)), "its time has come")
        let_it_come()
        assert claiming.result() is None
    assert ledger.statuses(begun) == {"first": "ready"}
    assert ledger.do(controls.resume, begun.id, ANN)
    assert ledger.claim(begun, "first").attempt == (1 if before == "ready" else 2)


def test_what_a_pause_writes_anew_is_as_it_was(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": (), "join": ("one", "two")})
    ledger.succeed(begun, "one")
    held = ledger.claim(begun, "two")
    ledger.do(failures.settle_retry, held, '{"name": "No"}', delay=3600)
    before = {path: tuple(ledger.step(begun, path)) for path in ("one", "two", "join")}
    paused(ledger, begun)
    assert {path: tuple(ledger.step(begun, path)) for path in before} == before


def test_a_step_that_is_ended_by_hand_while_a_pause_is_settled_is_looked_for_once_more(
    ledger: Ledger, ledger_url: str
) -> None:
    orchestrator = Orchestrator(database_url=ledger_url, broker_url="memory://", pool_size=1)
    begun = ledger.start(LINE)
    try:
        with late(ledger, lambda c: orchestrator._complete(c, begun.id, "first", "1", by=ANN)) as (ending, let_it_come):
            paused(ledger, begun)
            let_it_come()
            ending.result()
    finally:
        orchestrator.core.database.dispose()
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "ready"}
    assert audited(ledger, begun) == ["pause", "complete"]


def test_a_step_claimed_by_an_uncommitted_settle_keeps_the_pause_from_being_settled(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    held = ledger.claim(begun, "first")
    with ledger.open() as settling:
        assert settle_and_claim(settling, held) == Settled(halted=False, claimed=True)
        assert ledger.do(controls.pause, begun.id, ANN)
        assert not ledger.do(controls.settle_pause, begun.id)
        settling.commit()
    assert not ledger.do(controls.settle_pause, begun.id)
    assert ledger.do(settle_and_claim, following(held, "second"), "third") == Settled(halted=False, claimed=False)
    assert ledger.do(controls.settle_pause, begun.id)
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "succeeded", "third": "ready"}
    assert ledger.try_claim(begun, "third") is None


def test_a_pause_is_not_settled_before_a_settle_that_comes_late_and_what_that_claims(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    held = ledger.claim(begun, "first")
    with late(ledger, lambda c: settle_and_claim(c, held)) as (settling, let_it_come):
        assert ledger.do(controls.pause, begun.id, ANN)
        assert not ledger.do(controls.settle_pause, begun.id)
        let_it_come()
        assert settling.result() == Settled(halted=False, claimed=True)
    assert not ledger.do(controls.settle_pause, begun.id)
    assert ledger.do(settle_and_claim, following(held, "second"), "third") == Settled(halted=False, claimed=False)
    assert ledger.do(controls.settle_pause, begun.id)


def test_a_dead_owners_step_is_released_while_paused_and_taken_up_by_nobody(ledger: Ledger) -> None:
    begun = ledger.start({"first": ()})
    ledger.claim(begun, "first", "boot-dead.405")
    assert ledger.do(controls.pause, begun.id, ANN)
    assert not ledger.do(controls.settle_pause, begun.id)
    assert [found.status for found in ledger.do(owners.release, "boot-dead.405")] == ["ready"]
    assert ledger.do(controls.settle_pause, begun.id)
    assert ledger.try_claim(begun, "first") is None


# --- pausing and resuming against settles ---


def spread(connection: Connection, held: Claim, begun: Begun) -> Settled | None:
    return claims.settle_and_spread(connection, held, "1", successors=begun.successors("first"))


SETTLES: Final[dict[str, Callable[[Connection, Claim, Begun], Settled | None]]] = {
    "claims": lambda connection, held, _: settle_and_claim(connection, held),
    "spreads": spread,
}
FAN: Final = {"first": (), "second": ("first",)}


@pytest.mark.parametrize("how", SETTLES)
@pytest.mark.parametrize("first", ["settle", "resume"])
def test_what_is_behind_a_settle_during_a_pause_is_there_whoever_commits_first(
    ledger: Ledger, how: str, first: str
) -> None:
    begun = ledger.start(FAN)
    held = ledger.claim(begun, "first")
    assert ledger.do(controls.pause, begun.id, ANN)
    with ledger.open() as settling, ledger.open() as resuming:
        settled = SETTLES[how](settling, held, begun)
        assert settled is not None
        assert not settled.claimed
        assert controls.resume(resuming, begun.id, ANN)
        for each in (settling, resuming) if first == "settle" else (resuming, settling):
            each.commit()
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "ready"}
    ledger.succeed(begun, "second")


@pytest.mark.parametrize("how", SETTLES)
@pytest.mark.parametrize("sent", ["before the pause", "during the pause"])
def test_what_is_behind_a_settle_that_comes_late_is_there_after_the_resume(ledger: Ledger, how: str, sent: str) -> None:
    begun = ledger.start(FAN)
    held = ledger.claim(begun, "first")
    if sent == "during the pause":
        assert ledger.do(controls.pause, begun.id, ANN)
    with late(ledger, lambda c: SETTLES[how](c, held, begun)) as (settling, let_it_come):
        if sent == "before the pause":
            assert ledger.do(controls.pause, begun.id, ANN)
        assert not ledger.do(controls.settle_pause, begun.id)
        assert ledger.do(controls.resume, begun.id, ANN)
        let_it_come()
        settled = settling.result()
    claimed = how == "claims" and sent == "before the pause"
    assert settled.claimed is claimed
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "running" if claimed else "ready"}


def test_a_last_step_that_ends_during_a_pause_leaves_the_end_to_the_resume(ledger: Ledger) -> None:
    begun = ledger.start({"first": ()})
    held = ledger.claim(begun, "first")
    assert ledger.do(controls.pause, begun.id, ANN)
    settled = ledger.do(claims.settle_and_finish, held, "1", result="1")
    assert settled == Settled(halted=False, finished=None)
    assert not ledger.do(executions.finish, begun.id, "1")
    assert ledger.do(controls.settle_pause, begun.id)
    assert ledger.do(controls.resume, begun.id, ANN)
    assert sorted(race([lambda: ledger.do(executions.finish, begun.id, "1")] * 3)) == [False, False, True]


def test_joins_are_decided_and_time_goes_on_during_a_pause(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": (), "join": ("one", "two")})
    held = [ledger.claim(begun, path) for path in ("one", "two")]
    assert ledger.do(controls.pause, begun.id, ANN)
    for each in held:
        ledger.do(claims.settle_and_spread, each, "1", successors=begun.successors(each.path))
    assert ledger.do(joins.join, begun.id, "join") is not None
    assert ledger.do(controls.settle_pause, begun.id)
    assert ledger.statuses(begun)["join"] == "ready"
    assert ledger.try_claim(begun, "join") is None


@pytest.mark.parametrize("first", ["failure", "resume"])
def test_a_failure_for_good_fails_the_execution_once_whoever_commits_first(ledger: Ledger, first: str) -> None:
    begun = ledger.start({"one": (), "two": ()})
    one = ledger.claim(begun, "one")
    assert ledger.do(controls.pause, begun.id, ANN)

    def fail(connection: Connection) -> object:
        return failures.settle_failed(connection, one, '{"name": "No"}', outcome="failed")

    def resume(connection: Connection) -> object:
        return controls.resume(connection, begun.id, ANN)

    sooner, later = (fail, resume) if first == "failure" else (resume, fail)
    with ledger.open() as opened:
        assert sooner(opened)
        with ledger.behind(later) as second:
            second.until_blocked()
            opened.commit()
            assert second.result()
    assert ledger.status(begun) == "failing"
    assert ledger.events(begun, "execution_failing") == [("execution_failing", None, None)]
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) == "failed"


def test_nothing_runs_between_a_settled_pause_and_the_resume_and_nothing_is_lost_under_stress(ledger: Ledger) -> None:
    branches, length = "abc", 12
    begun = [
        ledger.start({f"{n}-{i}": (f"{n}-{i - 1}",) if i else () for n in branches for i in range(length)})
        for _ in range(6)
    ]
    broken: list[str] = []
    pauses = [0]

    def done(execution: Begun) -> bool:
        return list(ledger.statuses(execution).values()).count("succeeded") == len(branches) * length

    def work(name: str, owner: str) -> None:
        for execution in begun:
            for number in range(length):
                path = f"{name}-{number}"
                until(lambda e=execution, p=path: take(e, p, owner), f"{path} can be claimed")  # type: ignore[misc]

    def take(execution: Begun, path: str, owner: str) -> bool:
        row = ledger.step(execution, path)
        if row is not None and row.status == "succeeded":
            return True  # it was done in one go with the one before
        held = ledger.try_claim(execution, path, owner)
        while held is not None:
            behind = execution.graph.fused(held.path)
            if behind is None:
                return ledger.do(claims.settle_and_spread, held, "1", successors="[]") is not None
            settled = ledger.do(settle_and_claim, held, behind)
            assert settled is not None
            if not settled.claimed:
                return True
            held = following(held, behind)
        return False

    def command() -> None:
        for execution in begun:
            while not done(execution):
                if not ledger.do(controls.pause, execution.id, ANN):
                    broken.append(f"{execution.id} is {ledger.status(execution)}")
                    return
                until(lambda e=execution: ledger.do(controls.settle_pause, e.id), "it stands still")  # type: ignore[misc]
                before = ledger.statuses(execution)
                seen = [before, *(ledger.statuses(execution) for _ in range(3))]
                broken.extend(
                    f"{execution.id}: {each}" for each in seen if each != before or "running" in each.values()
                )
                assert ledger.do(controls.resume, execution.id, ANN)
                pauses[0] += 1

    actors: list[Callable[[], None]] = [partial(work, name, f"boot-{name}.1") for name in branches]
    race([*actors, command])
    assert broken == []
    assert pauses[0] > 6, "too few caught anybody at work"
    for execution in begun:
        assert ledger.status(execution) == "running"
        started = ledger.events(execution, "step_started")
        assert len(started) == len({path for _, path, _ in started}) == len(branches) * length


# --- ending a step by hand ---


@pytest.mark.parametrize("first", ["complete", "claim"])
def test_of_a_step_ended_by_hand_and_a_claim_of_it_the_first_wins(ledger: Ledger, first: str) -> None:
    begun = ledger.start(LINE)

    def by_hand(connection: Connection) -> object:
        return complete(connection, begun, "first", stood="ready", seen=0)

    def by_worker(connection: Connection) -> object:
        return claim(connection, begun, "first")

    sooner, later = (by_hand, by_worker) if first == "complete" else (by_worker, by_hand)
    with ledger.open() as opened:
        assert sooner(opened)
        with ledger.behind(later) as second:
            second.until_blocked()
            opened.commit()
            assert second.result() is None
    if first == "complete":
        assert ledger.statuses(begun) == {"first": "succeeded", "second": "ready"}
        assert audited(ledger, begun) == ["complete"]
    else:
        assert ledger.statuses(begun) == {"first": "running"}
        assert audited(ledger, begun) == []


@pytest.mark.parametrize("first", ["complete", "take"])
def test_of_a_step_ended_by_hand_and_a_signal_that_wakes_it_the_first_wins(ledger: Ledger, first: str) -> None:
    """Were the signal taken and the step ended by hand all the same, it would be lost without a word."""
    begun = signalling.waiting(ledger)
    ledger.do(signalling.insert, begun)
    found = ledger.do(signals.peek, begun.id, None)
    assert found is not None

    def take(connection: Connection) -> bool:
        return signals.take(connection, begun.id, found)

    def by_hand(connection: Connection) -> bool:
        return complete(connection, begun, "wait") is not None

    sooner, later = (by_hand, take) if first == "complete" else (take, by_hand)
    with ledger.open() as opened:
        assert sooner(opened)
        with ledger.behind(later) as second:
            second.until_blocked()
            opened.commit()
            assert second.result() is False
    row = ledger.step(begun, "wait")
    delivered = ledger.sql("SELECT path FROM orchestrator.signal_delivery WHERE execution_id = :e", e=begun.id)
    if first == "complete":
        assert (row.status, row.output, delivered) == ("succeeded", "by hand", [])
    else:
        assert (row.status, row.resume["signal"], delivered) == ("ready", 1, [("wait",)])


def test_a_step_that_has_gone_on_since_it_was_looked_at_is_not_ended_by_hand(ledger: Ledger) -> None:
    begun = signalling.waiting(ledger, seconds=0)
    until(lambda: bool(ledger.do(timers.due, 10)), "its time has come")
    assert ledger.do(complete, begun, "wait") is None
    held = ledger.claim(begun, "wait")
    ledger.do(signalling.wait, held)
    assert ledger.do(complete, begun, "wait") is None, "it waits again, in another attempt"
    assert ledger.do(complete, begun, "wait", seen=2) == []


def test_of_several_who_end_a_step_by_hand_one_does(ledger: Ledger) -> None:
    for _ in range(20):
        begun = signalling.waiting(ledger)
        ended = race([lambda b=begun: ledger.do(complete, b, "wait") for _ in range(4)])  # type: ignore[misc]
        assert [found for found in ended if found is not None] == [[]]
        assert ledger.events(begun, "step_succeeded") == [("step_succeeded", "wait", None)]


def test_a_step_is_ended_by_hand_during_a_pause_and_what_is_behind_it_waits(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    ledger.do(signalling.wait, ledger.claim(begun, "first"))
    paused(ledger, begun)
    assert ledger.do(complete, begun, "first") == ["second"]
    assert ledger.try_claim(begun, "second") is None
    assert ledger.do(controls.resume, begun.id, ANN)
    ledger.claim(begun, "second")


# --- cancelling ---


def cancel(connection: Connection, begun: Begun) -> bool:
    return controls.cancel(connection, begun.id, "enough", by=By(actor="bob"))


def test_what_an_uncommitted_end_by_hand_inserts_is_waited_for_and_cancelled(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    ledger.do(signalling.wait, ledger.claim(begun, "first"))
    with ledger.open() as completing:
        assert complete(completing, begun, "first") == ["second"]
        assert ledger.do(cancel, begun)
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            completing.commit()
            assert draining.result() == 0
    assert ledger.statuses(begun) == {"first": "succeeded", "second": "cancelled"}
    assert ledger.do(halts.end, begun.id) == "cancelled"


def test_an_end_by_hand_that_comes_after_the_drain_gets_nothing(ledger: Ledger) -> None:
    begun = ledger.start(LINE)
    ledger.do(signalling.wait, ledger.claim(begun, "first"))
    with late(ledger, lambda c: complete(c, begun, "first")) as (completing, let_it_come):
        assert ledger.do(cancel, begun)
        assert ledger.do(halts.drain, begun.id) == 0
        assert ledger.do(halts.end, begun.id) == "cancelled"
        let_it_come()
        assert completing.result() is None
    assert ledger.statuses(begun) == {"first": "cancelled"}


@pytest.mark.parametrize("first", ["cancel", "pause"])
def test_a_cancellation_wins_against_a_pause_whoever_commits_first(ledger: Ledger, first: str) -> None:
    begun = ledger.start(LINE)

    def hold(connection: Connection) -> bool:
        return controls.pause(connection, begun.id, ANN)

    def end(connection: Connection) -> bool:
        return cancel(connection, begun)

    sooner, later = (end, hold) if first == "cancel" else (hold, end)
    with ledger.open() as opened:
        assert sooner(opened)
        with ledger.behind(later) as second:
            second.until_blocked()
            opened.commit()
            assert second.result() is (first == "pause")
    assert ledger.status(begun) == "cancelling"
    assert not ledger.do(controls.settle_pause, begun.id)
    assert not ledger.do(controls.resume, begun.id, ANN)
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) == "cancelled"
    assert audited(ledger, begun) == (["cancel"] if first == "cancel" else ["pause", "cancel"])


def test_a_cancellation_and_the_writing_anew_of_a_pause_leave_nothing_open(ledger: Ledger) -> None:
    """The drain may find a row gone that the pause is writing anew; it looks again until none is open."""
    begun = ledger.start(dict.fromkeys("abcdef", ()))
    assert ledger.do(controls.pause, begun.id, ANN)
    with ledger.open() as pausing:
        assert controls.settle_pause(pausing, begun.id)
        with ledger.behind(lambda c: (cancel(c, begun), halts.drain(c, begun.id))) as draining:
            draining.until_blocked()
            pausing.commit()
            assert draining.result() == (True, 0)
    assert set(ledger.statuses(begun).values()) == {"cancelled"}
    assert ledger.do(halts.end, begun.id) == "cancelled"


# --- taking up again ---


def refuse(path: str) -> Reopened:
    raise AssertionError(f"{path} has no execution of its own")


def looked_at(ledger: Ledger, begun: Begun) -> Callable[[], bool]:
    """A retry as somebody would send it who looks now."""
    standing = ledger.do(reopens.standing, begun.id)
    assert standing is not None
    found = reopen(begun.graph, ledger.do(reopens.rows, begun.id), child=refuse)
    return lambda: ledger.do(
        reopens.retry, begun.id, seen=standing.settled_at, command="retry", reopened=found.rows, successors=[], by=ANN
    )


def fail(ledger: Ledger, begun: Begun, path: str, end: str = "failed") -> None:
    ledger.do(failures.settle_failed, ledger.claim(begun, path), '{"name": "No"}', outcome="failed")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(halts.end, begun.id) == end


def test_a_drain_that_comes_after_a_retry_halts_nothing(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()})
    fail(ledger, begun, "one")
    assert looked_at(ledger, begun)()
    held = ledger.claim(begun, "one")
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.statuses(begun) == {"one": "running", "two": "ready"}
    assert not ledger.step(begun, "one").halt
    assert ledger.do(failures.settle_failed, held, '{"name": "No"}', outcome="failed") == claims.Settled(
        halted=False, status="failed"
    )
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) == "failed"


def test_the_end_of_an_execution_waits_for_a_drain_that_others_have_been_faster_than(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()})
    ledger.do(failures.settle_failed, ledger.claim(begun, "one"), '{"name": "No"}', outcome="failed")
    assert ledger.do(halts.drain, begun.id) == 0
    with ledger.open() as draining:
        assert halts.drain(draining, begun.id) == 0
        with ledger.behind(lambda c: halts.end(c, begun.id)) as ending:
            ending.until_blocked()
            draining.commit()
            assert ending.result() == "failed"
    assert looked_at(ledger, begun)()


def test_what_was_worked_out_before_a_retry_ends_and_undoes_nothing_after_it(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()})

    def break_down() -> str:
        ledger.do(failures.settle_failed, ledger.claim(begun, "one"), '{"name": "No"}', outcome="failed")
        ledger.do(halts.drain, begun.id)
        about = ledger.do(executions.about, begun.id)
        assert about is not None
        return about.stamp

    late = break_down()
    assert ledger.do(halts.end, begun.id, stamp=late) == "failed"
    assert looked_at(ledger, begun)()
    ledger.succeed(begun, "two")
    stamp = break_down()
    assert ledger.do(halts.end, begun.id, stamp=late) is None
    assert not ledger.do(halts.begin_undo, begun.id, [("one", QUEUE)], stamp=late), "there is more to undo"
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.begin_undo, begun.id, [("two", QUEUE), ("one", QUEUE)], stamp=stamp)


def test_of_retries_at_the_same_moment_one_wins(ledger: Ledger) -> None:
    for _ in range(20):
        begun = ledger.start({"one": (), "two": ()})
        fail(ledger, begun, "one")
        assert sorted(race([looked_at(ledger, begun)] * 4)) == [False, False, False, True]
        assert ledger.statuses(begun) == {"one": "ready", "two": "ready"}
        assert ledger.events(begun, "step_ready").count(("step_ready", "one", None)) == 2, "at its start, and now"
        assert audited(ledger, begun) == ["retry"]
        assert ledger.claim(begun, "one").attempt == 2


def test_a_retry_of_what_was_taken_up_since_it_was_looked_at_gets_nothing(ledger: Ledger) -> None:
    begun = ledger.start({"one": (), "two": ()})
    fail(ledger, begun, "one")
    stale = looked_at(ledger, begun)
    assert looked_at(ledger, begun)()
    fail(ledger, begun, "two")
    assert not stale(), "it has failed again, of something else"
    assert looked_at(ledger, begun)()
    assert ledger.statuses(begun) == {"one": "ready", "two": "ready"}


def test_of_a_retry_and_an_undo_at_the_same_moment_one_wins(ledger: Ledger) -> None:
    for _ in range(20):
        begun = ledger.start({"one": (), "two": ()}, compensated=("one",))
        ledger.succeed(begun, "one")
        ledger.do(failures.settle_failed, ledger.claim(begun, "two"), "{}", outcome="failed", rollback=False)
        assert ledger.do(halts.end, begun.id) == "failed"
        undo = partial(ledger.do, halts.begin_undo, begun.id, [("one", QUEUE)], after="failed", by=ANN)
        actors: list[Callable[[], bool]] = [looked_at(ledger, begun), undo]
        assert sorted(race(actors)) == [False, True]
        taken_up = ledger.status(begun) == "running"
        assert ledger.statuses(begun).get("undo:one") == (None if taken_up else "ready")
        assert audited(ledger, begun) == ["retry" if taken_up else "compensate"]


def test_an_undo_worked_out_for_an_earlier_end_does_not_begin_after_a_later_one(ledger: Ledger) -> None:
    """It would leave out what was done in between."""
    begun = ledger.start({"one": (), "two": ()}, compensated=("one",))
    fail(ledger, begun, "two")
    stale = ledger.do(reopens.standing, begun.id)
    assert stale is not None
    assert looked_at(ledger, begun)()
    fail(ledger, begun, "one")

    def undo(after: Standing) -> bool:
        return ledger.do(
            halts.begin_undo, begun.id, [("one", QUEUE)], after=after.status, seen=after.settled_at, by=ANN
        )

    assert not undo(stale)
    assert ledger.status(begun) == "failed"
    standing = ledger.do(reopens.standing, begun.id)
    assert standing is not None
    assert undo(standing)


def test_of_repetitions_of_a_failed_compensation_at_the_same_moment_one_wins(ledger: Ledger) -> None:
    begun = ledger.start({"one": ()}, compensated=("one",))
    ledger.succeed(begun, "one")
    assert ledger.do(executions.flag_failing, begun.id, "{}")
    assert ledger.do(halts.begin_undo, begun.id, [("one", QUEUE)])
    held = ledger.claim(begun, "undo:one")
    ledger.do(undos.settle_undo, held, outcome="failed", output=None, error="{}")
    standing = ledger.do(reopens.standing, begun.id)
    assert standing is not None
    again = undo_again(ledger.do(reopens.rows, begun.id), ["one"])
    send = partial(ledger.do, reopens.undo_again, begun.id, seen=standing.settled_at, reopened=again, by=ANN)
    assert sorted(race([send] * 4)) == [False, False, False, True]
    assert ledger.claim(begun, "undo:one").attempt == 2


def test_a_step_that_lets_go_once_its_execution_is_flagged_decides_again_after_a_retry(ledger: Ledger) -> None:
    """It must not remember a body that was never begun: a retry would take that for done."""
    begun = ledger.start({"box": ()})
    held = ledger.claim(begun, "box")
    assert ledger.do(cancel, begun)
    assert ledger.do(parks.park, held, resume={"items": [1]}, awaits="body", body="[]") == Settled(halted=True)
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) == "cancelled"
    assert looked_at(ledger, begun)()
    again = ledger.claim(begun, "box")
    assert (again.attempt, again.woken) == (2, None)


# --- maintenance ---


def held_back(ledger: Ledger, begun: Begun) -> bool:
    row = ledger.step(begun, "one")
    return ledger.status(begun) == "created" and row.status == "waiting" and row.due_at is None


def test_a_start_that_saw_a_maintenance_and_commits_after_its_end_is_released(ledger: Ledger) -> None:
    target = ledger.target({"one": ()})
    new = starting.prepare(target, {}, Options(timeout=3600), 1_000)
    begun = Begun(id=new.id, graph=target.graph)
    assert ledger.do(maintenance.begin, TENANT, ANN)
    with ledger.open() as late_start:
        starting.insert(late_start, target, [new])
        assert ledger.do(maintenance.end, TENANT, ANN)
        late_start.commit()
    assert held_back(ledger, begun), "nobody could see it to release it"
    assert ledger.do(timers.due, 10) == []
    assert ledger.do(maintenance.release_held) == 1
    assert ledger.do(maintenance.release_held) == 0
    assert ledger.do(timers.due, 10) == [(begun.id, "one")]
    assert ledger.status(begun) == "running"


def test_what_is_released_and_not_yet_begun_waits_for_the_end_of_a_new_maintenance(ledger: Ledger) -> None:
    assert ledger.do(maintenance.begin, TENANT, ANN)
    begun = ledger.start({"one": ()})
    assert held_back(ledger, begun)
    assert ledger.do(maintenance.release_held) == 0, "not while it lasts"
    assert ledger.do(maintenance.end, TENANT, ANN)
    assert not held_back(ledger, begun)
    assert ledger.do(maintenance.begin, TENANT, ANN)
    assert ledger.do(timers.due, 10) == []
    assert ledger.do(maintenance.end, TENANT, ANN)
    assert ledger.do(timers.due, 10) == [(begun.id, "one")]


def test_of_several_who_begin_or_end_a_maintenance_one_does(ledger: Ledger) -> None:
    for change in (maintenance.begin, maintenance.end):
        done = race([lambda c=change: ledger.do(c, TENANT, ANN) for _ in range(4)])  # type: ignore[misc]
        assert sorted(done) == [False, False, False, True]
    rows = ledger.sql("SELECT command FROM orchestrator.audit WHERE command LIKE 'maintenance%' ORDER BY id DESC")
    assert [row[0] for row in rows][:2] == ["maintenance off", "maintenance on"]
