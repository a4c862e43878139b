"""Parts that go back by themselves: begun once, to the end whatever becomes of the whole, and woken once."""

from __future__ import annotations

import json
from typing import Final

import pytest

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.proxy import Proxy
from ledger.races import race
from orchestrator.engine.failure import FAILED_WITH_BODY
from orchestrator.engine.saga import undo_order
from orchestrator.ledger import (
    controls,
    database,
    failures,
    halts,
    lost_replies,
    parks,
    snapshots,
    stalled,
    timers,
    undos,
)
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.definition import Compensation, Step
from orchestrator.model.state import StepStatus
from orchestrator.runtime.link import Link, Recovered

ERROR: Final = json.dumps({"category": "business", "name": "No", "message": "no"})
INNER: Final = "block["
ONE, TWO = "block[0].one", "block[0].two"
#: In the order in which they go back.
PART: Final = [(TWO, QUEUE), (ONE, QUEUE)]


def broken(ledger: Ledger) -> tuple[Begun, Claim]:
    """An execution whose block is in hand with a broken body, of which two steps have succeeded; and one beside it."""
    undo = Compensation(activity="undo")
    body = (
        Step(id="one", activity="do", compensation=undo),
        Step(id="two", activity="do", after=("one",), compensation=undo),
        Step(id="no", activity="do", after=("two",)),
    )
    block = Step(id="block", kind="block", steps=body, on_error="continue")
    begun = ledger.begin(ledger.target_of(block, Step(id="beside", activity="do", compensation=undo)))
    ledger.wait_for_body(begun, "block", 0)
    ledger.succeed(begun, ONE)
    ledger.succeed(begun, TWO)
    ledger.succeed(begun, "beside")
    held = ledger.claim(begun, "block[0].no")
    assert ledger.do(failures.settle_breaking, held, ERROR, outcome="failed", container="block")
    assert ledger.do(parks.wake_for_body, begun.id, "block", INNER)
    return begun, ledger.claim(begun, "block")


def begin(ledger: Ledger, held: Claim) -> Settled | None:
    return ledger.do(undos.begin_part, held, ERROR, PART, inner=INNER)


def undo(ledger: Ledger, begun: Begun, path: str, outcome: str = StepStatus.SUCCEEDED, *, stop: bool = False) -> None:
    held = ledger.claim(begun, f"undo:{path}")
    error = ERROR if outcome == StepStatus.FAILED else None
    assert ledger.do(undos.settle_undo, held, outcome=outcome, output=None, error=error, stop=stop)


def of_part(ledger: Ledger, begun: Begun) -> dict[str, str]:
    return {path: status for path, status in ledger.statuses(begun).items() if path.startswith("undo:block")}


def wake(ledger: Ledger, begun: Begun) -> bool:
    return ledger.do(parks.wake_for_body, begun.id, "block", INNER)


def test_the_claim_is_exchanged_for_the_compensations_and_the_step_is_woken_by_the_last(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    assert begin(ledger, held) == Settled(halted=False, status="waiting", ready=(f"undo:{TWO}",))
    assert of_part(ledger, begun) == {f"undo:{ONE}": "blocked", f"undo:{TWO}": "ready"}
    assert ledger.step(begun, "block").awaits == "undo"
    assert not wake(ledger, begun), "something is undone yet"
    found = ledger.do(snapshots.snapshot, begun.id, None, 8)
    assert found is not None
    assert (found.ready, found.pending_undo) == ((f"undo:{TWO}",), {f"undo:{TWO}": [f"undo:{ONE}"]})
    undo(ledger, begun, TWO)
    assert not wake(ledger, begun)
    undo(ledger, begun, ONE)
    assert sorted(race([lambda: wake(ledger, begun)] * 6)) == [False] * 5 + [True]
    again = ledger.claim(begun, "block")
    assert again.woken is not None
    assert (again.woken.by, again.woken.error) == ("broken", json.loads(ERROR))
    assert ledger.status(begun) == "running"
    assert ledger.violated(begun) == []


def test_of_two_owners_one_begins_the_undo(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    fenced = Claim(execution_id=begun.id, path="block", attempt=held.attempt, owner=OTHER)
    old = Claim(execution_id=begun.id, path="block", attempt=held.attempt - 1, owner=OWNER)
    found = race([lambda each=each: begin(ledger, each) for each in (held, fenced, old, held)])  # type: ignore[misc]
    assert len([each for each in found if each is not None]) == 1
    assert len(ledger.events(begun, "step_blocked")) == 1


def test_a_sweep_finds_a_part_whose_last_undo_nobody_told_of(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    begin(ledger, held)
    undo(ledger, begun, TWO)
    ledger.age(begun, "ready_at")
    asleep = [found for found in ledger.do(parks.asleep, 1_000) if found[0] == begun.id]
    assert asleep == []
    undo(ledger, begun, ONE)
    asleep = [found for found in ledger.do(parks.asleep, 1_000) if found[0] == begun.id]
    assert asleep == [(begun.id, "block", INNER, True)]


@pytest.mark.parametrize(
    ("flag", "became", "part"),
    [(None, "waiting", {f"undo:{ONE}": "blocked", f"undo:{TWO}": "ready"}), ("failing", "cancelled", {})],
)
def test_a_begin_whose_reply_was_lost_is_known_as_done(
    ledger: Ledger, proxy: Proxy, flag: str | None, became: str, part: dict[str, str]
) -> None:
    begun, held = broken(ledger)
    if flag is not None:
        ledger.flag(begun, flag)
    proxy.lose_reply("ELSE 'undo' END")
    engine = database.connect(proxy.url, pool_size=1, lock_timeout=10)
    link = Link(engine, engine)
    try:
        found = link.settle(
            held, lambda connection: undos.begin_part(connection, held, ERROR, PART, inner=INNER), FAILED_WITH_BODY
        )
        assert isinstance(found, Recovered)
        assert link.call(lost_replies.standing, held) == became
    finally:
        link.close()
        engine.dispose()
    assert proxy.pending == 0
    assert of_part(ledger, begun) == part
    assert len(ledger.events(begun, "step_blocked")) == len(part) // 2


@pytest.mark.parametrize("flag", ["failing", "cancelling", "timing_out"])
def test_a_flag_is_waited_for_by_whoever_begins_and_a_part_that_has_begun_goes_on(ledger: Ledger, flag: str) -> None:
    begun, held = broken(ledger)
    ledger.flag(begun, flag)
    assert ledger.do(halts.drain, begun.id) == 1
    found = begin(ledger, held)
    assert found is not None
    assert (found.halted, found.status) == (True, "cancelled")
    assert of_part(ledger, begun) == {}
    other, held = broken(ledger)
    begin(ledger, held)
    ledger.flag(other, flag)
    assert ledger.do(halts.drain, other.id) == 0
    assert ledger.statuses(other)["block"] == "cancelled"
    assert not ledger.do(halts.begin_undo, other.id, [("beside", QUEUE)]), "the part comes first"
    assert ledger.do(halts.end, other.id) is None
    undo(ledger, other, TWO)
    undo(ledger, other, ONE)
    assert not wake(ledger, other)
    assert ledger.do(halts.begin_undo, other.id, [("beside", QUEUE)])
    undo(ledger, other, "beside")
    assert ledger.status(other) == "compensated"
    assert ledger.violated(other) == []


def test_a_begin_and_a_flag_that_race_leave_all_of_the_part_or_nothing(ledger: Ledger) -> None:
    executions = [broken(ledger) for _ in range(40)]

    def cancel(which: slice) -> None:
        for begun, _ in executions[which]:
            ledger.flag(begun, "cancelling")
            ledger.do(halts.drain, begun.id)

    def begin_undo(which: slice) -> None:
        for _, held in reversed(executions[which]):
            begin(ledger, held)

    # They meet in the middle: of the first and of the last one it is known who came first.
    cancel(slice(0, 1))
    begin_undo(slice(-1, None))
    race([lambda: cancel(slice(1, None)), lambda: begin_undo(slice(-1))])
    begins = 0
    for begun, _ in executions:
        part = of_part(ledger, begun)
        assert set(part.values()) in (set(), {"ready", "blocked"})
        begins += bool(part)
        assert ledger.statuses(begun)["block"] == "cancelled"
        assert ledger.do(halts.begin_undo, begun.id, [("beside", QUEUE)]) is not bool(part)
    assert 0 < begins < len(executions), "both came first now and then"


def test_what_a_part_could_not_undo_is_tried_once_more_with_the_whole(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    begin(ledger, held)
    undo(ledger, begun, TWO, StepStatus.FAILED, stop=True)
    assert of_part(ledger, begun) == {f"undo:{ONE}": "cancelled", f"undo:{TWO}": "failed"}
    assert not ledger.do(undos.is_undone, begun.id, INNER)
    assert wake(ledger, begun)
    assert ledger.do(failures.settle_failed, ledger.claim(begun, "block"), ERROR, outcome="failed")
    assert ledger.do(halts.drain, begun.id) == 0
    attempted = ledger.do(halts.attempted, begun.id)
    assert {found.path: found.undo for found in attempted if found.undo} == {ONE: "cancelled", TWO: "failed"}
    order = [path for path in ledger.do(undo_order, begun.id) if path in {ONE, TWO, "beside"}]
    assert order == ["beside", TWO, ONE]
    assert ledger.do(halts.begin_undo, begun.id, [(path, QUEUE) for path in order])
    for path in order:
        assert path == ONE or ledger.try_claim(begun, f"undo:{ONE}") is None
        undo(ledger, begun, path)
    assert ledger.status(begun) == "compensated"
    assert ledger.violated(begun) == []


def test_one_part_that_stops_leaves_the_compensations_of_others_alone(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    begin(ledger, held)
    others = json.dumps([["undo:other", "ready"], ["undo:another", "blocked"]])
    ledger.sql(
        """
        INSERT INTO orchestrator.step (execution_id, path, tenant, status, undoes, parents, queue, ready_xid)
        SELECT :e, p ->> 0, 'default', p ->> 1, substr(p ->> 0, 6),
               CASE p ->> 1 WHEN 'blocked' THEN '["undo:other"]'::jsonb END, 'q', pg_current_xact_id()
        FROM jsonb_array_elements(CAST(:rows AS jsonb)) p
        """,
        e=begun.id,
        rows=others,
    )
    undo(ledger, begun, TWO, StepStatus.FAILED, stop=True)
    statuses = ledger.statuses(begun)
    assert (statuses[f"undo:{ONE}"], statuses["undo:another"]) == ("cancelled", "blocked")


def test_compensations_of_a_part_that_are_tried_again_wait_and_go_on_while_the_whole_does(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    begin(ledger, held)
    for flag in ("running", "cancelling"):
        if flag != "running":
            ledger.flag(begun, flag)
        retried = ledger.do(failures.settle_retry, ledger.claim(begun, f"undo:{TWO}"), ERROR, delay=0)
        assert retried is not None
        assert retried.status == "retrying"
        ledger.sql(
            "UPDATE orchestrator.step SET status = 'ready', due_at = NULL, ready_xid = pg_current_xact_id() "
            "WHERE execution_id = :e AND path = :p",
            e=begun.id,
            p=f"undo:{TWO}",
        )


def test_no_compensation_of_a_part_is_claimed_while_an_operator_holds_the_whole(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    begin(ledger, held)
    ledger.flag(begun, "pausing")
    assert ledger.try_claim(begun, f"undo:{TWO}") is None
    ledger.do(controls.settle_pause, begun.id)
    assert ledger.status(begun) == "paused"
    assert ledger.try_claim(begun, f"undo:{TWO}") is None


def test_the_claims_on_the_ledger_hold_each_part_by_itself(ledger: Ledger) -> None:
    early, held = broken(ledger)
    begin(ledger, held)
    undo(ledger, early, TWO)
    for path, violated in (("beside", []), (ONE, ["no compensation starts before all attempts have settled"])):
        ledger.sql(
            "INSERT INTO orchestrator.event (execution_id, tenant, type, path, attempt) "
            "VALUES (:e, 'default', 'step_started', :p, 2)",
            e=early.id,
            p=path,
        )
        assert ledger.violated(early) == violated
    disordered, held = broken(ledger)
    assert ledger.do(undos.begin_part, held, ERROR, list(reversed(PART)), inner=INNER)
    undo(ledger, disordered, ONE)
    undo(ledger, disordered, TWO)
    assert ledger.violated(disordered) == ["compensations end in the reverse order of what they undo"]
    for begun in (early, disordered):
        ledger.sql("DELETE FROM orchestrator.event WHERE execution_id = :e", e=begun.id)
        ledger.sql("DELETE FROM orchestrator.step WHERE execution_id = :e", e=begun.id)
        ledger.sql("DELETE FROM orchestrator.execution WHERE id = :e", e=begun.id)


def test_what_a_part_has_undone_since_it_was_looked_at_is_not_waited_for_by_the_whole(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    assert begin(ledger, held)
    undo(ledger, begun, TWO)
    ledger.flag(begun, "failing")
    assert ledger.do(halts.drain, begun.id) == 0
    seen = [("beside", QUEUE), (ONE, QUEUE)]
    undo(ledger, begun, ONE)
    assert not ledger.do(halts.begin_undo, begun.id, seen)
    assert ledger.status(begun) == "failing"
    ledger.sql("UPDATE orchestrator.execution SET created_at = now() - interval '1 h' WHERE id = :e", e=begun.id)
    assert begun.id in ledger.do(stalled.stalled, 10_000), "whoever ended the last one may have died"
    assert ledger.do(halts.begin_undo, begun.id, [("beside", QUEUE)])
    undo(ledger, begun, "beside")
    assert ledger.status(begun) == "compensated"


def test_the_whole_is_not_taken_for_forgotten_while_a_part_of_it_goes_back(ledger: Ledger) -> None:
    begun, held = broken(ledger)
    assert begin(ledger, held)
    ledger.flag(begun, "failing")
    ledger.do(halts.drain, begun.id)
    ledger.sql("UPDATE orchestrator.execution SET created_at = now() - interval '1 h' WHERE id = :e", e=begun.id)

    def forgotten() -> bool:
        return begun.id in ledger.do(stalled.stalled, 10_000)

    assert not forgotten(), "a compensation is ready"
    taken = ledger.claim(begun, f"undo:{TWO}")
    assert not forgotten(), "it runs"
    assert ledger.do(failures.settle_retry, taken, ERROR, delay=3600)
    assert not forgotten(), "it is tried again, in an hour"
    ledger.age(begun, "due_at", 7200)
    assert ledger.do(timers.due, 10_000)
    undo(ledger, begun, TWO)
    undo(ledger, begun, ONE)
    assert forgotten()
