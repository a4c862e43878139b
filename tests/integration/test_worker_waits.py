"""Delays, signals, events and workflows within workflows, on real workers: nobody is held while they wait."""

from __future__ import annotations

from uuid import uuid4

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site, settled_once
from nodes.waiting import eventually

from orchestrator import InvalidInput, SignalRefused

pytest_plugins = ("nodes.fixtures",)


def test_a_delay_ends_when_its_time_has_come(site: Site, worker: WorkerNode) -> None:
    handle = site.start("delayed")
    site.step_status(handle, "pause", "waiting")
    assert site.step(handle, "pause")["owner"] is None
    assert handle.result(30) == 1
    settled_once(site, handle)


def test_a_signal_wakes_the_step_that_waits_for_it(site: Site, worker: WorkerNode) -> None:
    handle = site.start("approval")
    site.step_status(handle, "approved", "waiting")
    assert site.orchestrator.signal(handle.id, "approval", {"by": "ann"})
    assert handle.result(30) == "ann"
    settled_once(site, handle)


def test_a_signal_that_comes_early_is_kept_and_a_doubled_one_dropped(site: Site, worker: WorkerNode) -> None:
    handle = site.start("approval-later", {})
    assert site.orchestrator.signal(handle.id, "approval", {"by": "ann"}, id="a")
    assert not site.orchestrator.signal(handle.id, "approval", {"by": "ann"}, id="a")
    assert site.orchestrator.signal(handle.id, "approval", {"by": "bob"}, id="b")
    site.open(handle)
    assert handle.result(30) == ["ann", "bob"]


def test_a_signal_that_breaks_its_schema_is_refused_and_recorded(site: Site, worker: WorkerNode) -> None:
    handle = site.start("approval")
    with pytest.raises(InvalidInput, match="by"):
        site.orchestrator.signal(handle.id, "approval", {"from": "ann"}, actor="ann")
    (refused,) = site.events(handle, "signal_refused")
    assert refused["data"]["actor"] == "ann"
    site.orchestrator.signal(handle.id, "approval", {"by": "ann"})
    assert handle.result(30) == "ann"


def test_a_wait_that_times_out_may_be_caught(site: Site, worker: WorkerNode) -> None:
    handle = site.start("impatient")
    handle.result(30)
    assert site.steps(handle) == {"approved": "failed", "late": "succeeded"}
    settled_once(site, handle)


def test_an_event_wakes_everybody_who_waits_for_it(site: Site, worker: WorkerNode) -> None:
    order = str(uuid4())
    early = [site.start("listener", {"order": order}) for _ in range(2)]
    for handle in early:
        site.step_status(handle, "paid", "waiting")
    site.start("teller", {"order": order, "amount": 5}).result(30)
    late = site.start("listener", {"order": order})
    assert [handle.result(30) for handle in (*early, late)] == [5, 5, 5]
    elsewhere = site.start("listener", {"order": str(uuid4())})
    site.step_status(elsewhere, "paid", "waiting")


def test_signal_with_start_does_both_or_finds_what_is_there(site: Site, worker: WorkerNode) -> None:
    key = str(uuid4())
    first = site.orchestrator.signal_with_start(
        "approval", {}, signal="approval", payload={"by": "ann"}, idempotency_key=key, id="1"
    )
    again = site.orchestrator.signal_with_start(
        "approval", {}, signal="approval", payload={"by": "ann"}, idempotency_key=key, id="1"
    )
    assert first.id == again.id
    assert first.created
    assert not again.created
    assert first.result(30) == "ann"


def test_a_parent_sees_what_its_child_gives(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent", {"n": 4})
    assert handle.result(30) == 8
    settled_once(site, handle)
    handle = site.start("parents-of-many")
    assert handle.result(30) == [2, 4, 6]
    settled_once(site, handle)


def test_a_parent_may_catch_its_childs_failure(site: Site, worker: WorkerNode) -> None:
    assert site.start("parent-of-failing").result(30) == "BusinessError"


def test_a_failing_parent_has_its_finished_child_undone(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-undone")
    site.status(handle, "compensated")
    (child,) = children(site, handle.id)
    assert site.orchestrator.execution(child).status() == "compensated"
    assert site.witness.calls(child, "undo:work")
    settled_once(site, handle)


def test_a_child_with_a_compensation_of_its_own_is_undone_by_that(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-compensating")
    site.status(handle, "compensated")
    (child,) = children(site, handle.id)
    assert site.orchestrator.execution(child).status() == "succeeded"
    assert site.step(handle, "undo:child")["output"] == 2
    settled_once(site, handle)


def test_a_child_that_ended_before_its_parent_was_told_is_undone_all_the_same(site: Site, worker: WorkerNode) -> None:
    """Its step was ready to hear of it when the execution was flagged, and was cancelled."""
    handle = site.start("parent-cancelling")
    (child,) = eventually(lambda: children(site, handle.id), "the child is started")
    running = site.orchestrator.execution(child)
    site.call(running, "work")
    deaf = "UPDATE orchestrator.step SET wait_name = CAST(gen_random_uuid() AS text) WHERE execution_id = :id"
    site.execute(f"{deaf} AND path = 'child'", id=handle.id)
    site.open(running)
    running.result(30)
    site.open(handle, "refusal")
    site.status(handle, "compensated")
    assert site.steps(handle)["child"] == "cancelled"
    assert running.status() == "compensated"


def test_a_failing_parent_cancels_its_child_and_waits_for_it(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-cancelling")
    (child,) = eventually(lambda: children(site, handle.id), "the child is started")
    running = site.orchestrator.execution(child)
    site.call(running, "work")
    site.open(handle, "refusal")
    site.status(running, "cancelling")
    site.status(handle, "failing")
    site.open(running)
    site.status(running, "compensated")
    site.status(handle, "failed")


def test_the_child_of_a_step_that_lost_a_race_is_cancelled(site: Site, worker: WorkerNode) -> None:
    handle = site.start("racing-parent")
    (child,) = eventually(lambda: children(site, handle.id), "the child is started")
    running = site.orchestrator.execution(child)
    site.call(running, "work")
    site.open(handle, "refusal")
    handle.result(30)
    site.status(running, "cancelling")
    site.open(running)
    site.status(running, "compensated")


def test_a_detached_child_goes_its_own_way(site: Site, worker: WorkerNode) -> None:
    child = site.start("parent-detached").result(30)["execution_id"]
    assert site.orchestrator.execution(child).result(30) == 8
    assert site.value("SELECT parent_id FROM orchestrator.execution WHERE id = :id", id=child) is None


def test_a_childs_deadline_is_no_later_than_its_parents(site: Site, worker: WorkerNode) -> None:
    handle = site.start("parent-cancelling", timeout=200)
    (child,) = eventually(lambda: children(site, handle.id), "the child is started")
    deadlines = site.execute("SELECT deadline FROM orchestrator.execution WHERE id IN (:a, :b)", a=handle.id, b=child)
    assert len({row[0] for row in deadlines}) == 1
    site.open(handle, "refusal")
    # A child that had succeeded before would have to be undone.
    site.status(site.orchestrator.execution(child), "cancelling")
    site.open(site.orchestrator.execution(child))
    site.status(handle, "failed")


def children(site: Site, parent: str) -> list[str]:
    return [str(row[0]) for row in site.execute("SELECT id FROM orchestrator.execution WHERE parent_id = :p", p=parent)]


def test_a_signal_to_an_execution_that_has_ended_is_refused(site: Site, worker: WorkerNode) -> None:
    handle = site.start("quick")
    handle.result(30)
    with pytest.raises(SignalRefused, match="has ended"):
        site.orchestrator.signal(handle.id, "approval")
