"""Steps that wait for their bodies: parked, woken once, and broken off without anything of the body starting after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import pytest

from ledger.driver import OTHER, OWNER, QUEUE, Begun, Ledger
from ledger.races import race, until
from orchestrator.ledger import claims, failures, halts, owners, parks, timers
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.definition import Step
from orchestrator.model.loop import Lanes

ERROR: Final = {"category": "business", "name": "No", "message": "no"}


def lanes_of(count: int) -> Step:
    """A loop whose iterations are all side by side."""
    spec = {"items": list(range(count)), "concurrency": count}
    return Step(id="loop", kind="each", spec=spec, steps=(Step(id="work", activity="do"),))


def looping(ledger: Ledger, count: int) -> Begun:
    """An execution that waits for its lanes."""
    begun = ledger.begin(ledger.target_of(lanes_of(count)))
    ledger.wait_for_body(begun, "loop", *range(count))
    return begun


def block(after: Mapping[str, tuple[str, ...]]) -> Step:
    """A block of steps, each with those that it comes after."""
    steps = tuple(Step(id=path, activity="do", after=parents) for path, parents in after.items())
    return Step(id="block", kind="block", steps=steps)


def blocking(ledger: Ledger, after: Mapping[str, tuple[str, ...]]) -> Begun:
    """An execution that waits for a block."""
    begun = ledger.begin(ledger.target_of(block(after), Step(id="beside", activity="do")))
    ledger.wait_for_body(begun, "block", 0)
    return begun


def wake(ledger: Ledger, begun: Begun, path: str, inner: str | None = None) -> bool:
    return ledger.do(parks.wake_for_body, begun.id, path, inner or f"{path}[")


def rows_after(begun: Begun, path: str, count: int) -> str:
    return begun.graph.follow(path, None, lambda _: Lanes(count=count, lanes=count)).rows


# --- parking and waking ---


def test_parking_inserts_the_beginning_of_the_body_and_the_claim_is_gone(ledger: Ledger) -> None:
    begun = ledger.begin(ledger.target_of(lanes_of(2)))
    held = ledger.claim(begun, "loop")
    rows = begun.graph.body_rows(("loop[0].", "loop[1]."), begun.graph.body("loop"))
    race_of = [lambda: ledger.do(parks.park, held, resume={"kept": 1}, awaits="body", body=rows)] * 3
    settled = [found for found in race(race_of) if found is not None]
    assert [(found.halted, sorted(found.ready)) for found in settled] == [(False, ["loop[0].work", "loop[1].work"])]
    row = ledger.step(begun, "loop")
    assert (row.status, row.owner, row.awaits, row.resume) == ("waiting", None, "body", {"kept": 1})
    assert ledger.try_claim(begun, "loop") is None
    assert ledger.do(claims.settle_and_spread, held, "1", successors="[]") is None


def test_a_late_owner_parks_nothing(ledger: Ledger) -> None:
    begun = ledger.begin(ledger.target_of(lanes_of(1)))
    late = ledger.claim(begun, "loop")
    ledger.do(owners.release, OWNER)
    ledger.claim(begun, "loop", OTHER)
    rows = begun.graph.body_rows(("loop[0].",), begun.graph.body("loop"))
    assert ledger.do(parks.park, late, resume={}, awaits="body", body=rows) is None
    assert ledger.statuses(begun) == {"loop": "running"}


@pytest.mark.parametrize("drained", [False, True])
def test_parking_a_step_of_a_flagged_execution_cancels_it_and_begins_no_body(ledger: Ledger, drained: bool) -> None:
    begun = ledger.begin(ledger.target_of(lanes_of(2)))
    held = ledger.claim(begun, "loop")
    ledger.flag(begun, "cancelling")
    if drained:
        assert ledger.do(halts.drain, begun.id) == 1
    rows = begun.graph.body_rows(("loop[0].",), begun.graph.body("loop"))
    parked = ledger.do(parks.park, held, resume={}, awaits="body", seconds=60, body=rows)
    assert parked == Settled(halted=True)
    assert ledger.statuses(begun) == {"loop": "cancelled"}
    assert ledger.step(begun, "loop").due_at is None
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) == "cancelled"


def test_a_park_that_is_uncommitted_while_the_drain_runs_is_waited_for_and_cancelled_with_its_body(
    ledger: Ledger,
) -> None:
    begun = ledger.begin(ledger.target_of(lanes_of(2)))
    held = ledger.claim(begun, "loop")
    rows = begun.graph.body_rows(("loop[0].", "loop[1]."), begun.graph.body("loop"))
    with ledger.open() as parking:
        parks.park(parking, held, resume={}, awaits="body", body=rows)
        ledger.flag(begun, "cancelling")
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            parking.commit()
            assert draining.result() == 0
    assert set(ledger.statuses(begun).values()) == {"cancelled"}
    assert not wake(ledger, begun, "loop")


def test_two_last_lanes_that_do_not_see_each_other_wake_their_loop_once(ledger: Ledger) -> None:
    begun = looping(ledger, 2)
    left, right = ledger.claim(begun, "loop[0].work"), ledger.claim(begun, "loop[1].work", OTHER)
    with ledger.open() as one, ledger.open() as two:
        for connection, held in ((one, left), (two, right)):
            claims.settle_and_spread(connection, held, "1", successors=rows_after(begun, held.path, 2))
        asked = [parks.wake_for_body(connection, begun.id, "loop", "loop[") for connection in (one, two)]
        one.commit()
        two.commit()
    assert asked == [False, False]
    assert sorted(race([lambda: wake(ledger, begun, "loop")] * 4)) == [False, False, False, True]
    row = ledger.step(begun, "loop")
    assert (row.status, row.woken_by, row.awaits) == ("ready", "body", None)
    assert ledger.events(begun, "step_ready").count(("step_ready", "loop", None)) == 2, "at its start, and now"
    held = ledger.claim(begun, "loop")
    assert held.woken == claims.Woken(unmet=False, resume={}, by="body", error=None)


def test_lanes_that_end_in_real_races_wake_their_loop_exactly_once(ledger: Ledger) -> None:
    begun = [looping(ledger, 4) for _ in range(40)]

    def work(lane: int) -> list[str]:
        woken = []
        for execution in begun:
            held = ledger.claim(execution, f"loop[{lane}].work", f"boot-{lane}.1")
            ledger.do(claims.settle_and_spread, held, "1", successors="[]")
            if wake(ledger, execution, "loop"):
                woken.append(execution.id)
        return woken

    woken = race([lambda lane=lane: work(lane) for lane in range(4)])  # type: ignore[misc]
    assert sorted(id_ for ids in woken for id_ in ids) == sorted(execution.id for execution in begun)


def test_a_loop_sleeps_as_long_as_anything_of_its_body_is_open_however_deep(ledger: Ledger) -> None:
    begun = looping(ledger, 1)
    held = ledger.claim(begun, "loop[0].work")
    deep = json.dumps([{"path": path, "status": "ready", "queue": QUEUE} for path in ("loop[0].in[7].a", "loops[0].b")])
    ledger.do(claims.settle_and_spread, held, "1", successors=deep)
    assert not wake(ledger, begun, "loop")
    ledger.do(claims.settle_and_spread, ledger.claim(begun, "loop[0].in[7].a"), "1", successors="[]")
    assert wake(ledger, begun, "loop"), "what another loop has open is not its affair"


def test_a_loop_whose_last_arriver_died_is_found_after_a_while_and_no_other(ledger: Ledger) -> None:
    begun = {"asleep": looping(ledger, 1), "at work": looping(ledger, 1), "halted": looping(ledger, 1)}
    for name in ("asleep", "halted"):
        held = ledger.claim(begun[name], "loop[0].work")
        ledger.do(claims.settle_and_spread, held, "1", successors="[]")
    ledger.flag(begun["halted"], "cancelling")
    ledger.do(halts.drain, begun["halted"].id)
    ids = {execution.id for execution in begun.values()}

    def found() -> list[tuple[str, str, str, bool]]:
        return [row for row in ledger.do(parks.asleep, 1_000) if row[0] in ids]

    assert found() == [], "too young"
    for execution in begun.values():
        ledger.age(execution, "ready_at")
    assert found() == [(begun["asleep"].id, "loop", "loop[", False)]
    assert wake(ledger, begun["asleep"], "loop")
    assert found() == []


# --- breaking off ---


def break_off(ledger: Ledger, held: Claim, message: str) -> Settled | None:
    error = json.dumps(ERROR | {"message": message})
    return ledger.do(failures.settle_breaking, held, error, outcome="failed", container="block")


def test_of_two_failures_that_break_a_body_off_the_first_error_counts(ledger: Ledger) -> None:
    begun = blocking(ledger, {"one": (), "two": ()})
    one, two = ledger.claim(begun, "block[0].one"), ledger.claim(begun, "block[0].two", OTHER)
    with ledger.open() as first:
        failures.settle_breaking(first, one, json.dumps(ERROR), outcome="failed", container="block")
        with ledger.behind(
            lambda c: failures.settle_breaking(c, two, '{"name": "Later"}', outcome="failed", container="block")
        ) as second:
            second.until_blocked()
            first.commit()
            assert second.result() == Settled(halted=False, status="failed")
    assert wake(ledger, begun, "block")
    held = ledger.claim(begun, "block")
    assert held.woken == claims.Woken(unmet=False, resume={}, by="broken", error=ERROR | {"step": "block[0].one"})
    assert ledger.status(begun) == "running"


def test_a_broken_body_is_halted_alone_and_its_container_waits_for_what_still_runs(ledger: Ledger) -> None:
    begun = blocking(ledger, {"bad": (), "slow": (), "idle": (), "after": ("slow",)})
    bad, slow = ledger.claim(begun, "block[0].bad"), ledger.claim(begun, "block[0].slow")
    assert break_off(ledger, bad, "no") == Settled(halted=False, status="failed")
    assert ledger.do(halts.drain, begun.id, "block[", container="block") == 1
    assert ledger.statuses(begun) == {
        "beside": "ready",
        "block": "waiting",
        "block[0].bad": "failed",
        "block[0].idle": "cancelled",
        "block[0].slow": "running",
    }
    assert not wake(ledger, begun, "block")
    settled = ledger.do(claims.settle_and_spread, slow, "1", successors=begun.successors("block[0].slow"))
    assert settled == Settled(halted=True), "halted, it brings nothing about"
    assert sorted(race([lambda: wake(ledger, begun, "block")] * 3)) == [False, False, True]
    assert ledger.step(begun, "block").woken_by == "broken"
    ledger.succeed(begun, "beside")


def test_a_broken_body_whose_breaker_died_before_the_drain_is_found_after_a_while(ledger: Ledger) -> None:
    begun = blocking(ledger, {"bad": (), "idle": ()})
    break_off(ledger, ledger.claim(begun, "block[0].bad"), "no")

    def found() -> list[tuple[str, str, str, bool]]:
        return [row for row in ledger.do(parks.asleep, 1_000) if row[0] == begun.id]

    assert found() == [], "too young"
    ledger.age(begun, "ready_at")
    assert found() == [(begun.id, "block", "block[", True)]
    ledger.do(halts.drain, begun.id, "block[", container="block")
    assert found() == [(begun.id, "block", "block[", True)], "drained, and yet to be woken"
    assert wake(ledger, begun, "block")
    assert found() == []


def test_a_late_drain_halts_nothing_of_a_body_that_is_not_broken_off_any_more(ledger: Ledger) -> None:
    begun = blocking(ledger, {"bad": (), "idle": ()})
    assert ledger.do(halts.drain, begun.id, "block[", container="block") == 0
    assert ledger.statuses(begun)["block[0].idle"] == "ready", "nothing is broken yet"
    break_off(ledger, ledger.claim(begun, "block[0].bad"), "no")
    assert ledger.do(halts.drain, begun.id, "block[", container="block") == 0
    assert ledger.statuses(begun)["block[0].idle"] == "cancelled"
    # As a retry leaves it.
    ledger.sql(
        "UPDATE orchestrator.step SET status = 'ready', ready_xid = pg_current_xact_id(), halt = false, "
        "settled_at = NULL, was = NULL WHERE execution_id = :e AND path = 'block[0].idle'",
        e=begun.id,
    )
    ledger.sql("UPDATE orchestrator.step SET woken_by = NULL WHERE execution_id = :e AND path = 'block'", e=begun.id)
    assert ledger.do(halts.drain, begun.id, "block[", container="block") == 0
    assert ledger.statuses(begun)["block[0].idle"] == "ready"


def test_a_settle_inside_a_body_that_is_uncommitted_while_it_is_drained_is_waited_for(ledger: Ledger) -> None:
    begun = blocking(ledger, {"bad": (), "one": (), "two": ("one",)})
    held = ledger.claim(begun, "block[0].one")
    break_off(ledger, ledger.claim(begun, "block[0].bad"), "no")
    with ledger.open() as settling:
        claims.settle_and_claim(
            settling, held, "1", following="block[0].two", queue=QUEUE, transactional=False, timeout=None
        )
        with ledger.behind(lambda c: halts.drain(c, begun.id, "block[", container="block")) as draining:
            draining.until_blocked()
            settling.commit()
            assert draining.result() == 1
    assert ledger.step(begun, "block[0].two").halt


def test_a_container_that_is_itself_halted_is_broken_off_but_not_woken(ledger: Ledger) -> None:
    begun = blocking(ledger, {"bad": (), "slow": ()})
    bad, slow = ledger.claim(begun, "block[0].bad"), ledger.claim(begun, "block[0].slow")
    ledger.flag(begun, "cancelling")
    assert ledger.do(halts.drain, begun.id) == 2
    assert break_off(ledger, bad, "no") == Settled(halted=True, status="failed")
    ledger.do(claims.settle_and_spread, slow, "1", successors="[]")
    assert not wake(ledger, begun, "block")
    assert ledger.do(halts.end, begun.id) == "cancelled"


def test_a_step_whose_body_is_broken_off_is_not_woken_by_its_time_while_something_of_it_runs(ledger: Ledger) -> None:
    begun = blocking(ledger, {"bad": (), "slow": ()})
    bad, slow = ledger.claim(begun, "block[0].bad"), ledger.claim(begun, "block[0].slow")
    ledger.sql("UPDATE orchestrator.step SET due_at = now() WHERE execution_id = :e AND path = 'block'", e=begun.id)
    break_off(ledger, bad, "no")
    assert (begun.id, "block") not in ledger.do(timers.due, 1_000)
    ledger.do(halts.drain, begun.id, "block[", container="block")
    ledger.do(claims.settle_and_spread, slow, "1", successors="[]")
    assert wake(ledger, begun, "block")
    assert ledger.step(begun, "block").woken_by == "broken"


def test_nothing_of_a_broken_body_starts_or_settles_after_its_container_was_woken_under_stress(ledger: Ledger) -> None:
    lines = {f"{n}-{i}": (f"{n}-{i - 1}",) if i else () for n in "abc" for i in range(8)}
    begun = [blocking(ledger, {"bad": (), **lines}) for _ in range(25)]
    bad = {execution.id: ledger.claim(execution, "block[0].bad") for execution in begun}
    caught: list[str] = []

    def work(root: str, owner: str) -> None:
        for execution in begun:
            held = ledger.try_claim(execution, f"block[0].{root}-0", owner)
            while held is not None:
                held = go_on(execution, held)

    def go_on(execution: Begun, held: Claim) -> Claim | None:
        following = execution.graph.fused(held.path)
        if following is None:
            ledger.do(claims.settle_and_spread, held, "1", successors="[]")
            return None
        options = {"queue": QUEUE, "transactional": False, "timeout": None}
        settled = ledger.do(claims.settle_and_claim, held, "1", following=following, **options)  # type: ignore[arg-type]
        if settled is None or not settled.claimed:
            return None
        return Claim(execution_id=held.execution_id, path=following, attempt=1, owner=held.owner)

    def break_each() -> None:
        for execution in begun:
            until(lambda e=execution: worked_on(e) >= 3, "workers are in the midst of it")  # type: ignore[misc]
            break_off(ledger, bad[execution.id], "no")
            ledger.do(halts.drain, execution.id, "block[", container="block")
            until(lambda e=execution: wake(ledger, e, "block"), "running attempts have drained")  # type: ignore[misc]
            if worked_on(execution) < len(lines):
                caught.append(execution.id)

    def worked_on(execution: Begun) -> int:
        return list(ledger.statuses(execution).values()).count("succeeded")

    race([lambda: work("a", OWNER), lambda: work("b", OTHER), lambda: work("c", "boot-c.303"), break_each])
    assert len(caught) > 5, "too few were caught at work"
    late = ledger.sql(
        "SELECT s.path, s.status FROM orchestrator.step s JOIN orchestrator.step b "
        "ON b.execution_id = s.execution_id AND b.path = 'block' AND b.status = 'ready' "
        "WHERE starts_with(s.path, 'block[') AND (s.settled_at IS NULL OR s.settled_at > b.ready_at)"
    )
    assert late == []
    for execution in begun:
        assert (ledger.step(execution, "block").status, ledger.step(execution, "beside").status) == ("ready", "ready")
