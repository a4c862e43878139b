"""A part that fails goes back by itself before somebody handles that, on two workers and whatever comes in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually
from pytest_celery import CeleryWorkerCluster

from orchestrator import ControlRefused, ExecutionHandle
from orchestrator.ledger import verify

pytest_plugins = ("nodes.fixtures",)

ANN: dict[str, Any] = {"actor": "ann", "reason": "a test"}


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    """Two nodes: whoever wakes what waits is often another than who parked it."""
    return [Pool(name="one", concurrency=2), Pool(name="other", concurrency=2)]


def order(site: Site, handle: ExecutionHandle) -> list[str]:
    """The paths that were called, in order."""
    calls = sorted(site.witness.calls(handle.id), key=lambda call: call.at)
    return [call.path for call in calls if call.phase == "begun"]


def undone(site: Site, handle: ExecutionHandle) -> list[str]:
    """The compensations that were called, in order."""
    return [path for path in order(site, handle) if path.startswith("undo:")]


def agrees(site: Site, handle: ExecutionHandle) -> None:
    """Assert that every claim on the ledger holds, and that each step was settled once."""
    with site.orchestrator.core.database.connect() as connection:
        assert [check for check in verify.verify(connection) if not check.ok] == []
    settled_once(site, handle)


NESTED = ["undo:trip[0].stay[0].breakfast", "undo:trip[0].stay[0].hotel"]
TRIP = [
    "undo:trip[0].legs[1].leg",
    "undo:trip[0].legs[0].leg",
    "undo:trip[0].camp",
    "undo:trip[0].flight",
]


def test_a_part_goes_back_in_reverse_order_before_it_is_handled(site: Site, worker: WorkerNode) -> None:
    handle = site.start("nested-part", {"attempts": 0})
    assert handle.result(30) == 1
    called = order(site, handle)
    assert undone(site, handle) == NESTED + TRIP, "what the inner part undid is not undone again"
    assert called.index("trip[0].camp") > called.index(NESTED[-1])
    assert called.index("stay_at_home") > called.index(TRIP[-1])
    assert site.step(handle, "trip")["exit"] == "error"
    agrees(site, handle)


def test_what_went_back_by_itself_does_not_go_back_again_with_the_whole(site: Site, worker: WorkerNode) -> None:
    handle = site.start("nested-part", {"attempts": 1})
    site.status(handle, "compensated")
    assert undone(site, handle) == [*NESTED, *TRIP, "undo:behind", "undo:stay_at_home", "undo:before"]
    agrees(site, handle)


def test_whoever_bears_the_failure_finds_nothing_of_the_part_left(site: Site, worker: WorkerNode) -> None:
    handle = site.start("borne-parts")
    site.status(handle, "succeeded")
    assert sorted(undone(site, handle)) == [
        "undo:continued[0].continued_done",
        "undo:endless[0].endless_done",
        "undo:endless[1].endless_done",
        "undo:endless[2].endless_done",
        "undo:fallen_back[0].fallen_back_done",
        "undo:looped[0].looped_done",
        "undo:tolerated[0].tolerated_done",
    ]
    called = order(site, handle)
    assert called.index("instead") > called.index("undo:fallen_back[0].fallen_back_done")
    assert called.index("enough") > called.index("undo:endless[0].endless_done")
    agrees(site, handle)


def test_nothing_goes_back_while_an_attempt_or_a_child_of_the_part_goes_on(site: Site, worker: WorkerNode) -> None:
    handle = site.start("busy-part")
    site.call(handle, "part[0].slow")
    found = "SELECT id FROM orchestrator.execution WHERE parent_id = :id"
    eventually(lambda: site.execute(found, id=handle.id), "the child has begun")
    child = site.orchestrator.execution(str(site.value(found, id=handle.id)))
    site.call(child, "rest")
    site.open(handle, "refusal")
    site.step_status(handle, "part[0].no", "failed")
    eventually(lambda: child.status() == "cancelling", "the child is cancelled")
    explained = site.orchestrator.explain(handle.id).findings
    (part,) = [each for each in explained if each.kind == "part"]
    assert "`part` has failed with BusinessError" in part.sentence
    assert f"it waits for `part[0].slow` and its child {child.id} (" in part.sentence
    assert part.command == f"orchestrator explain {child.id}"
    assert any(each.execution_id == child.id for each in explained), "and why that goes on"
    site.open(child)
    eventually(lambda: undone(site, child) == ["undo:work"], "the child has gone back")
    assert undone(site, handle) == []
    site.open(handle)
    site.status(handle, "succeeded")
    assert undone(site, handle) == ["undo:part[0].slow", "undo:part[0].first"]
    (ended,) = site.witness.calls(handle.id, "part[0].slow", "ended")
    assert site.call(handle, "undo:part[0].slow").at > ended.at
    agrees(site, handle)
    agrees(site, child)


def test_two_parts_go_back_side_by_side(site: Site, worker: WorkerNode) -> None:
    handles = [site.start("twin-parts") for _ in range(4)]
    for handle in handles:
        assert handle.result(60) == 2
        for name in ("left", "right"):
            mine = [path for path in undone(site, handle) if path.startswith(f"undo:{name}")]
            assert mine == [f"undo:{name}[0].{name}_{n}" for n in reversed(range(12))]
        agrees(site, handle)


def test_a_part_within_a_transition_goes_back_each_time_that_it_is_taken(site: Site, worker: WorkerNode) -> None:
    handle = site.start("machine-part")
    for event, state in (("GO", "there"), ("BACK", "here"), ("GO", "there")):
        site.step_status(handle, "machine", "waiting")
        eventually(lambda: "event" in {step["awaits"] for step in _rows(site, handle)}, "it waits for an event")
        site.orchestrator.send(handle.id, event)
        eventually(lambda state=state: handle.state() == state, f"it is {state}")  # type: ignore[misc]
    assert undone(site, handle) == ["undo:1:GO/part[0].one", "undo:3:GO/part[0].one"]
    site.orchestrator.send(handle.id, "END")
    site.status(handle, "compensated")
    assert undone(site, handle)[2:] == ["undo:3:GO/outside", "undo:1:GO/outside"]
    agrees(site, handle)


def _rows(site: Site, handle: ExecutionHandle) -> list[dict[str, Any]]:
    return [site.step(handle, path) for path, status in site.steps(handle).items() if status == "waiting"]


# What comes in between.


def held(site: Site) -> ExecutionHandle:
    """An execution of which a part is going back, and is halfway."""
    handle = site.start("held-part")
    site.call(handle, "undo:part[0].two")
    return handle


def test_explain_tells_of_a_part_that_goes_back(site: Site, worker: WorkerNode) -> None:
    handle = held(site)
    (found,) = [each for each in site.orchestrator.explain(handle.id).findings if each.kind == "part"]
    assert "`part` has failed with BusinessError" in found.sentence
    assert "at the undo of `part[0].two`; 2 left" in found.sentence
    with pytest.raises(ControlRefused, match="is being undone"):
        site.orchestrator.complete(handle.id, "part", **ANN)
    site.open(handle)
    assert handle.result(30) == "went on"


def test_a_cancelled_execution_waits_for_its_part_and_then_goes_back_as_a_whole(site: Site, worker: WorkerNode) -> None:
    handle = held(site)
    site.orchestrator.cancel(handle.id, compensate=True, **ANN)
    site.status(handle, "cancelling")
    findings = site.orchestrator.explain(handle.id).findings
    assert any("waits for the undo of `part[0].two`" in found.sentence for found in findings)
    site.open(handle)
    site.status(handle, "compensated")
    assert undone(site, handle) == ["undo:part[0].three", "undo:part[0].two", "undo:part[0].one", "undo:before"]
    assert "handled" not in order(site, handle)
    agrees(site, handle)


def test_a_retry_of_one_that_was_cancelled_meanwhile_goes_on_with_the_handler(site: Site, worker: WorkerNode) -> None:
    handle = held(site)
    site.orchestrator.cancel(handle.id, compensate=False, **ANN)
    site.open(handle)
    site.status(handle, "cancelled")
    assert undone(site, handle) == ["undo:part[0].three", "undo:part[0].two", "undo:part[0].one"]
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == "went on"
    called = order(site, handle)
    assert called[-2:] == ["handled", "behind"]
    assert len(called) == len(set(called)), "nothing was done, or undone, twice"


def test_a_paused_execution_undoes_no_more_of_its_part_until_it_is_resumed(site: Site, worker: WorkerNode) -> None:
    handle = held(site)
    site.orchestrator.pause(handle.id, **ANN)
    site.open(handle)
    site.status(handle, "paused")
    assert undone(site, handle) == ["undo:part[0].three", "undo:part[0].two"]
    site.orchestrator.resume(handle.id, **ANN)
    assert handle.result(30) == "went on"
    agrees(site, handle)


def test_the_death_of_a_worker_keeps_no_part_from_going_back(
    site: Site, celery_worker_cluster: CeleryWorkerCluster
) -> None:
    handle = held(site)
    boot = site.step(handle, "undo:part[0].two")["owner"].partition(".")[0]
    (node,) = [
        node for node in celery_worker_cluster.nodes if getattr(node, "pid", None) and site.boot_id(node) == boot
    ]
    node.container.kill()
    site.call(handle, "undo:part[0].two", attempt=2)
    site.open(handle)
    assert handle.result(60) == "went on"
    agrees(site, handle)


# What cannot be undone.


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("stubborn-part", ["undo:part[0].three", "undo:part[0].two", "undo:part[0].one"]),
        ("stopping-part", ["undo:part[0].three", "undo:part[0].two"]),
    ],
)
def test_nobody_handles_the_failure_of_a_part_that_could_not_be_undone(
    site: Site, worker: WorkerNode, name: str, first: list[str]
) -> None:
    handle = site.start(name, {"attempts": 2})
    site.status(handle, "compensation_failed")
    assert undone(site, handle)[: len(first)] == first
    assert "handled" not in order(site, handle)
    assert site.steps(handle)["undo:part[0].two"] == "failed"
    findings = site.orchestrator.explain(handle.id).findings
    assert [found.command for found in findings] == [f"orchestrator compensate {handle.id}"]
    site.orchestrator.compensate(handle.id, **ANN)
    site.status(handle, "compensated")
    statuses = {status for path, status in site.steps(handle).items() if path.startswith("undo:")}
    assert statuses == {"succeeded"}
    assert len([path for path in undone(site, handle) if path == "undo:before"]) == 1


def test_a_retry_of_the_handler_does_not_touch_the_part(site: Site, worker: WorkerNode) -> None:
    handle = site.start("unhandled-part")
    site.status(handle, "failed")
    site.orchestrator.retry(handle.id, **ANN)
    assert handle.result(30) == "went on"
    called = order(site, handle)
    assert called == ["part[0].one", "part[0].no", "undo:part[0].one", "handled", "handled", "behind"]


def test_a_fork_from_behind_a_part_that_went_back_keeps_it_as_it_is(site: Site, worker: WorkerNode) -> None:
    handle = held(site)
    site.open(handle)
    assert handle.result(30) == "went on"
    fork = site.orchestrator.fork(handle.id, "behind", **ANN)
    assert fork.result(30) == "went on"
    assert order(site, fork) == ["behind"]
