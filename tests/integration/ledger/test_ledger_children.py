"""Executions that are steps of others: started once, and their end told once."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Connection

from ledger.driver import OTHER, Begun, Ledger
from ledger.races import race
from orchestrator.engine import start as starting
from orchestrator.engine.start import Options, Target
from orchestrator.ledger import (
    children,
    claims,
    controls,
    executions,
    failures,
    halts,
    joins,
    parks,
    reopens,
    timers,
)
from orchestrator.ledger.claims import Claim, Settled
from orchestrator.ledger.controls import By
from orchestrator.ledger.executions import NewExecution
from orchestrator.model.identity import new_id
from orchestrator.model.reopened import Reopened
from orchestrator.model.state import StepStatus

NewChild: TypeAlias = tuple[Target, NewExecution]


def parent(ledger: Ledger) -> tuple[Begun, Claim]:
    """An execution, and the claim of the step that stands for a child."""
    begun = ledger.start({"child": (), "beside": ()})
    return begun, ledger.claim(begun, "child")


def child_of(ledger: Ledger, held: Claim) -> Begun:
    """A child of one step."""
    return ledger.begin(ledger.target({"only": ()}), Options(id=str(new_id()), parent=held))


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
    begun, held = parent(ledger)
    target = ledger.target({"only": ()})
    new = starting.prepare(target, {}, Options(id=str(new_id()), parent=held), 1_000)
    started = race([lambda: ledger.do(starting.insert, target, [new])] * 4)
    assert {one.execution_id for made in started for one in made} == {new.id}
    assert ledger.do(children.open_children, begun.id) == [new.id]
    child = Begun(id=new.id, graph=target.graph)
    assert ledger.statuses(child) == {"only": "ready"}
    assert ledger.events(child) == [("execution_running", None, None), ("step_ready", "only", None)]


def started(ledger: Ledger, child: NewChild) -> bool:
    """Whether there is a child, once somebody has sent its start."""
    target, new = child
    sent = ledger.do(starting.insert, target, [new])
    rows = ledger.sql("SELECT FROM orchestrator.execution WHERE id = :id", id=new.id)
    assert bool(sent) == bool(rows)
    return bool(rows)


def prepared(ledger: Ledger, held: Claim, identity: str | None = None) -> NewChild:
    """A child that is yet to be started."""
    target = ledger.target({"only": ()})
    return target, starting.prepare(target, {}, Options(id=identity or str(new_id()), parent=held), 1_000)


def test_no_child_is_started_for_a_step_that_was_halted(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    assert ledger.do(controls.cancel, begun.id, "not wanted")
    assert ledger.do(halts.drain, begun.id) == 1
    assert ledger.do(children.open_children, begun.id) == [], "the command is done"
    child = prepared(ledger, held)
    assert not started(ledger, child)
    parked = ledger.do(parks.park, held, resume={}, awaits="child", wait_name=child[1].id)
    assert parked == Settled(halted=True)
    assert ledger.do(halts.end, begun.id) == "cancelled"
    assert not started(ledger, child)


@pytest.mark.parametrize("end", ["failed", "cancelled", "another's"])
def test_no_child_is_started_by_an_owner_who_has_lost_the_step(ledger: Ledger, end: str) -> None:
    begun, held = parent(ledger)
    child = prepared(ledger, held)
    if end == "failed":
        assert ledger.do(failures.settle_failed, held, '{"name": "Late"}', outcome="timed_out")
        ledger.do(halts.drain, begun.id)
        assert ledger.do(halts.begin_undo, begun.id, [("child", "q")])
    elif end == "cancelled":
        ledger.do(joins.cancel_losers, begun.id, ["child"])
    else:
        ledger.do(failures.settle_retry, held, "{}", delay=0)
        assert (begun.id, "child") in ledger.do(timers.due, 1_000)
        ledger.claim(begun, "child", OTHER)
    assert not started(ledger, child)
    assert ledger.do(parks.park, held, resume={}, awaits="child", wait_name=child[1].id) is None


def test_a_second_attempt_finds_the_child_of_the_first_whoever_was_slower(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    first = prepared(ledger, held)
    assert started(ledger, first)
    ledger.do(failures.settle_retry, held, "{}", delay=0)
    assert (begun.id, "child") in ledger.do(timers.due, 1_000)
    again = prepared(ledger, ledger.claim(begun, "child", OTHER), first[1].id)
    assert started(ledger, again)
    assert started(ledger, first), "it is there; the park will tell its owner"
    assert ledger.do(children.open_children, begun.id) == [first[1].id]


def test_a_drain_waits_for_the_start_of_a_child_and_what_follows_sees_it(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    target, new = prepared(ledger, held)
    with ledger.open() as beginning:
        assert starting.insert(beginning, target, [new])
        ledger.flag(begun, "cancelling")
        with ledger.behind(lambda c: halts.drain(c, begun.id)) as draining:
            draining.until_blocked()
            beginning.commit()
            assert draining.result() == 1
    assert ledger.do(children.open_children, begun.id) == [new.id]


def test_the_start_of_a_child_waits_for_a_drain_and_is_none_then(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    target, new = prepared(ledger, held)
    ledger.flag(begun, "cancelling")
    with ledger.open() as draining:
        assert halts.drain(draining, begun.id) == 1
        with ledger.behind(lambda c: starting.insert(c, target, [new])) as beginning:
            beginning.until_blocked()
            draining.commit()
            assert beginning.result() == []
    assert ledger.do(executions.about, new.id) is None


def failed_child(ledger: Ledger) -> tuple[Begun, Begun]:
    """An execution whose step waits for a child that has failed, and that child."""
    begun, held = parent(ledger)
    child = child_of(ledger, held)
    park(ledger, held, child)
    ledger.do(failures.settle_failed, ledger.claim(child, "only", OTHER), '{"name": "No"}', outcome="failed")
    ledger.do(halts.drain, child.id)
    assert ledger.do(halts.end, child.id) == "failed"
    return begun, child


def retry(connection: Connection, child: Begun, seen: datetime | None, *, awaited: bool = False) -> bool:
    again = [Reopened(path="only", status=StepStatus.READY)]
    said = {"command": "retry", "successors": [], "by": By(actor="ann")}
    return reopens.retry(connection, child.id, seen=seen, reopened=again, awaited=awaited, **said)  # type: ignore[arg-type]


def ended_at(ledger: Ledger, child: Begun) -> datetime | None:
    standing = ledger.do(reopens.standing, child.id)
    assert standing is not None
    return standing.settled_at


@pytest.mark.parametrize("flag", ["failing", "cancelling", "timing_out"])
def test_a_child_is_not_retried_once_its_parent_goes_back(ledger: Ledger, flag: str) -> None:
    begun, child = failed_child(ledger)
    seen = ended_at(ledger, child)
    ledger.flag(begun, flag)
    assert not ledger.do(retry, child, seen)
    ledger.do(halts.drain, begun.id)
    assert ledger.do(halts.begin_undo, begun.id, [("beside", "q")])
    assert not ledger.do(retry, child, seen)
    assert ledger.statuses(child) == {"only": "failed"}


def test_a_child_is_retried_for_its_parent_only_while_a_step_waits_for_it(ledger: Ledger) -> None:
    begun, child = failed_child(ledger)
    other, waited_for = failed_child(ledger)
    ledger.do(joins.cancel_losers, begun.id, ["child"])
    assert not ledger.do(retry, child, ended_at(ledger, child), awaited=True)
    assert ledger.do(retry, child, ended_at(ledger, child)), "an operator's word is enough"
    assert ledger.do(retry, waited_for, ended_at(ledger, waited_for), awaited=True)
    assert ledger.do(children.open_children, other.id) == [waited_for.id]


def test_a_retry_waits_for_a_flag_on_the_parent_and_is_none_then(ledger: Ledger) -> None:
    begun, child = failed_child(ledger)
    seen = ended_at(ledger, child)
    with ledger.open() as flagging:
        assert controls.cancel(flagging, begun.id, "not wanted")
        with ledger.behind(lambda c: retry(c, child, seen)) as retrying:
            retrying.until_blocked()
            flagging.commit()
            assert not retrying.result()
    assert ledger.status(child) == "failed"


def test_a_flag_on_the_parent_waits_for_a_retry_and_what_follows_sees_the_child(ledger: Ledger) -> None:
    begun, child = failed_child(ledger)
    seen = ended_at(ledger, child)
    with ledger.open() as retrying:
        assert retry(retrying, child, seen)
        with ledger.behind(lambda c: controls.cancel(c, begun.id, "not wanted")) as flagging:
            flagging.until_blocked()
            retrying.commit()
            assert flagging.result()
    assert ledger.do(children.open_children, begun.id) == [child.id]


def test_a_child_is_cancelled_for_its_parent_unless_its_step_goes_on(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, held)
    assert not ledger.do(controls.cancel, child.id, "late", awaited=False), "its step runs"
    park(ledger, held, child)
    assert not ledger.do(controls.cancel, child.id, "late", awaited=False), "its step waits"
    assert ledger.status(child) == "running"
    ledger.flag(begun, "cancelling")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(controls.cancel, child.id, "in time", awaited=False)


@pytest.mark.parametrize("state", ["halted", "failed"])
def test_a_child_is_cancelled_for_its_parent_whose_step_runs_halted_or_has_failed(ledger: Ledger, state: str) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, held)
    if state == "failed":
        ledger.do(failures.settle_failed, held, '{"name": "Late"}', outcome="timed_out")
    else:
        ledger.flag(begun, "cancelling")
    ledger.do(halts.drain, begun.id)
    assert ledger.do(controls.cancel, child.id, "in time", awaited=False)


@pytest.mark.parametrize("first", ["end", "park"])
def test_whoever_comes_last_of_a_childs_end_and_the_park_of_its_step_wakes_it_once(ledger: Ledger, first: str) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, held)
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
    child = child_of(ledger, held)
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
    made = [child_of(ledger, held) for _, held in begun]

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
    child = child_of(ledger, held)
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
    earlier, child = child_of(ledger, held), child_of(ledger, held)
    park(ledger, held, child)
    finish(ledger, earlier)
    assert wake(ledger, earlier) == (begun.id, None)
    assert ledger.step(begun, "child").status == "waiting"
    finish(ledger, child)
    assert wake(ledger, child) == (begun.id, "child")


def test_a_childs_own_error_is_its_steps(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, held)
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
    child = child_of(ledger, held)
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
        made[name] = (begun, child_of(ledger, held))
        park(ledger, held, made[name][1])
    for name in ("untold", "told"):
        finish(ledger, made[name][1])
    wake(ledger, made["told"][1])
    ids = {child.id: name for name, (_, child) in made.items()}

    def untold() -> list[str]:
        return [ids[child] for child, _ in ledger.do(children.untold, 1_000) if child in ids]

    assert untold() == [], "too young"
    for begun, _ in made.values():
        ledger.age(begun, "ready_at")
    assert untold() == ["untold"]
    assert wake(ledger, made["untold"][1])[1] == "child"
    assert untold() == []


def test_a_childs_deadline_is_no_later_than_its_parents(ledger: Ledger) -> None:
    begun = ledger.start({"child": ()}, timeout=100)
    held = ledger.claim(begun, "child")
    options = Options(id=str(new_id()), parent=held, timeout=5_000)
    long, plain = (
        ledger.begin(ledger.target({"only": ()}), options),
        child_of(ledger, held),
    )
    rows = ledger.sql(
        "SELECT DISTINCT deadline FROM orchestrator.execution WHERE id = ANY(CAST(:ids AS uuid[]))",
        ids=[begun.id, long.id, plain.id],
    )
    assert len(rows) == 1


def test_a_parent_that_waits_for_a_child_to_go_back_is_not_taken_for_forgotten(ledger: Ledger) -> None:
    begun, held = parent(ledger)
    child = child_of(ledger, held)
    park(ledger, held, child)
    ledger.flag(begun, "failing")
    ledger.do(halts.drain, begun.id)
    for each in (begun, child):
        ledger.sql("UPDATE orchestrator.execution SET created_at = now() - interval '1 h' WHERE id = :e", e=each.id)
    ledger.age(begun, "settled_at", 3600)

    claim = "every execution is final or has an open step"
    assert claim not in ledger.violated(begun)
    finish(ledger, child)
    ledger.sql("UPDATE orchestrator.execution SET settled_at = now() - interval '1 h' WHERE id = :e", e=child.id)
    assert claim in ledger.violated(begun)
