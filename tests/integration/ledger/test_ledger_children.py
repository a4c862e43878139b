"""Executions that are steps of others: started once, and their end told once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.driver import OTHER, Begun, Ledger
from ledger.races import race
from orchestrator.engine import start as starting
from orchestrator.engine.start import Options
from orchestrator.ledger import children, claims, controls, halts, parks
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.model.identity import new_id


def parent(ledger: Ledger) -> tuple[Begun, Claim]:
    """An execution, and the claim of the step that stands for a child."""
    begun = ledger.start({"child": (), "beside": ()})
    return begun, ledger.claim(begun, "child")


def child_of(ledger: Ledger, begun: Begun) -> Begun:
    """A child of one step."""
    return ledger.begin(ledger.target({"only": ()}), Options(id=str(new_id()), parent=(begun.id, "child")))


def park(ledger: Ledger, held: Claim, child: Begun) -> None:
    assert ledger.do(parks.park, held, resume={"child": child.id}, awaits="child", wait_name=child.id) == Settled(
        halted=False
    )


def finish(ledger: Ledger, child: Begun, output: object = 1) -> None:
    held = ledger.claim(child, "only", OTHER)
    settled = ledger.do(claims.settle_and_finish, held, "1", result=json.dumps(output))
    assert settled is not None
    assert settled.finished == "succeeded"


def told(found: children.Told | None) -> tuple[str | None, str | None]:
    return (None, None) if found is None else (found.execution_id, found.woken)


def wake(ledger: Ledger, child: Begun) -> tuple[str | None, str | None]:
    return told(ledger.do(children.wake, child.id))


def found(ledger: Ledger, begun: Begun) -> Any:
    return ledger.claim(begun, "child").woken


def test_a_child_that_is_started_twice_under_the_same_id_is_one(ledger: Ledger) -> None:
    begun, _ = parent(ledger)
    target = ledger.target({"only": ()})
    new = starting.prepare(target, {}, Options(id=str(new_id()), parent=(begun.id, "child")), 1_000)
    started = race([lambda: ledger.do(starting.insert, target, [new])] * 4)
    assert {one.execution_id for made in started for one in made} == {new.id}
    assert ledger.do(children.open_children, begun.id) == [new.id]
    child = Begun(id=new.id, graph=target.graph)
    assert ledger.statuses(child) == {"only": "ready"}
    assert ledger.events(child) == [("execution_running", None, None), ("step_ready", "only", None)]


@pytest.mark.parametrize("first", ["end", "park"])
def test_whoever_comes_last_of_a_childs_end_and_the_park_of_its_step_wakes_it_once(ledger: Ledger, first: str) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, begun)
    if first == "park":
        park(ledger, held, child)
        assert wake(ledger, child) == (None, None), "it goes on"
        finish(ledger, child, "done")
    else:
        finish(ledger, child, "done")
        assert wake(ledger, child) == (begun.id, None), "nobody waits yet"
        park(ledger, held, child)
    woken = race([lambda: wake(ledger, child)] * 4)
    assert sorted(woken, key=str) == sorted([(begun.id, "child"), *[(begun.id, None)] * 3], key=str)
    assert found(ledger, begun) == claims.Woken(
        unmet=False, resume={"child": child.id, "status": "succeeded", "output": "done"}, by="child", error=None
    )
    assert ledger.events(begun, "step_ready").count(("step_ready", "child", None)) == 2, "at its start, and now"


def test_a_childs_end_and_a_park_that_do_not_see_each_other_find_each_other_after_their_commits(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, begun)
    last = ledger.claim(child, "only", OTHER)
    with ledger.open() as ending, ledger.open() as parking:
        claims.settle_and_finish(ending, last, "1", result="1")
        parks.park(parking, held, resume={}, awaits="child", wait_name=child.id)
        assert told(children.wake(ending, child.id)) == (begun.id, None)
        assert told(children.wake(parking, child.id)) == (None, None)
        ending.commit()
        parking.commit()
    woken = race([lambda: wake(ledger, child)[1] for _ in range(2)])
    assert sorted(woken, key=str) == [None, "child"]


def test_children_that_end_in_real_races_with_the_parks_of_their_steps_wake_them_once(ledger: Ledger) -> None:
    begun = [parent(ledger) for _ in range(60)]
    made = [child_of(ledger, execution) for execution, _ in begun]

    def end() -> list[str | None]:
        woken = []
        for child in made:
            finish(ledger, child)
            woken.append(wake(ledger, child)[1])
        return woken

    def wait() -> list[str | None]:
        woken = []
        for (_, held), child in zip(begun, made, strict=True):
            park(ledger, held, child)
            woken.append(wake(ledger, child)[1])
        return woken

    ended, waited = race([end, wait])
    assert [{one, other} for one, other in zip(ended, waited, strict=True)] == [{None, "child"}] * len(begun)


@pytest.mark.parametrize(
    ("flag", "end", "category", "name"),
    [
        ("failing", "failed", "system", "ChildFailed"),
        ("cancelling", "cancelled", "cancelled", "ChildFailed"),
        ("timing_out", "timed_out", "timeout", "ChildFailed"),
    ],
)
def test_a_child_that_did_not_succeed_breaks_its_step(
    ledger: Ledger, flag: str, end: str, category: str, name: str
) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, begun)
    park(ledger, held, child)
    ledger.flag(child, flag)
    assert wake(ledger, child) == (None, None), "it has not ended"
    ledger.do(halts.drain, child.id)
    assert ledger.do(halts.end, child.id) == end
    assert wake(ledger, child) == (begun.id, "child")
    woken = found(ledger, begun)
    assert (woken.by, woken.resume) == ("broken", {"child": child.id, "status": end})
    assert woken.error == {"category": category, "name": name, "message": f"{child.id} ended {end}: no error"}


def test_a_child_that_its_step_does_not_wait_for_any_more_wakes_nobody(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    earlier, child = child_of(ledger, begun), child_of(ledger, begun)
    park(ledger, held, child)
    finish(ledger, earlier)
    assert wake(ledger, earlier) == (begun.id, None)
    assert ledger.step(begun, "child").status == "waiting"
    finish(ledger, child)
    assert wake(ledger, child) == (begun.id, "child")


def test_a_childs_own_error_is_its_steps(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, begun)
    park(ledger, held, child)
    assert ledger.do(controls.cancel, child.id, "not wanted")
    assert not ledger.do(controls.cancel, child.id, "not wanted")
    ledger.do(halts.drain, child.id)
    ledger.do(halts.end, child.id)
    wake(ledger, child)
    error = found(ledger, begun).error
    assert error == {
        "category": "cancelled",
        "name": "Cancelled",
        "message": f"{child.id} ended cancelled: not wanted",
    }


def test_a_parent_goes_back_only_when_its_children_have_ended(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, begun)
    park(ledger, held, child)
    ledger.flag(begun, "cancelling")
    assert ledger.do(halts.drain, begun.id) == 0
    assert ledger.do(halts.end, begun.id) is None
    assert not ledger.do(halts.begin_undo, begun.id, [("beside", "q")])
    ledger.do(controls.cancel, child.id, "its parent goes back")
    ledger.do(halts.drain, child.id)
    ledger.do(halts.end, child.id)
    assert wake(ledger, child) == (begun.id, None), "the step is cancelled, its execution is told"
    assert ledger.do(halts.end, begun.id) == "cancelled"


def test_a_child_whose_end_nobody_told_is_found_after_a_while_and_no_other(ledger: Ledger) -> None:
    made = {}
    for name in ("untold", "goes on", "told"):
        begun, held = parent(ledger)
        made[name] = (begun, child_of(ledger, begun))
        park(ledger, held, made[name][1])
    for name in ("untold", "told"):
        finish(ledger, made[name][1])
    wake(ledger, made["told"][1])
    ids = {child.id: name for name, (_, child) in made.items()}

    def untold() -> list[str]:
        return [ids[child] for child in ledger.do(children.untold, 1_000) if child in ids]

    assert untold() == [], "too young"
    for begun, _ in made.values():
        ledger.age(begun, "ready_at")
    assert untold() == ["untold"]
    assert wake(ledger, made["untold"][1])[1] == "child"
    assert untold() == []


def test_a_childs_deadline_is_no_later_than_its_parents(ledger: Ledger) -> None:
    begun = ledger.start({"child": ()}, timeout=100)
    options = Options(id=str(new_id()), parent=(begun.id, "child"), timeout=5_000)
    long, plain = (
        ledger.begin(ledger.target({"only": ()}), options),
        child_of(ledger, begun),
    )
    rows = ledger.sql(
        "SELECT DISTINCT deadline FROM orchestrator.execution WHERE id = ANY(CAST(:ids AS uuid[]))",
        ids=[begun.id, long.id, plain.id],
    )
    assert len(rows) == 1
