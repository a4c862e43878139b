"""Executions on real worker pools: what they compute, what their messages say, what they hold open."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually
from pytest_celery import CeleryTestSetup

from orchestrator import ExecutionFailed

pytest_plugins = ("nodes.fixtures",)

#: What the broker may ever be handed for one step, in bytes.
LARGEST_MESSAGE = 4096


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=4), Pool(name="other", queues=("elsewhere",))]


def test_the_nodes_are_pytest_celerys(site: Site, celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.ready(control=True)
    assert len(celery_setup) == 4, "two worker nodes, the one that sweeps, the broker"
    assert celery_setup.worker.hostname()
    assert celery_setup.worker.logs()


def test_a_workflow_runs_in_sequence_in_parallel_on_two_pools_and_alone(site: Site, worker: WorkerNode) -> None:
    with site.traffic() as traffic:
        handle = site.start("pipeline", {"number": 21})
        assert handle.result(30) == {"sum": 42, "text": "42 in all", "of": 21}
        settled_once(site, handle)
        heads = [message.args[2] for message in traffic.segments(handle.id)]
    # One message a segment: fused steps, each branch, the join, and what is elsewhere or alone.
    assert sorted(heads) == ["alone", "elsewhere", "first", "join", "last", "left", "right"]
    calls = {call.path: call for call in site.witness.calls(handle.id)}
    assert worker.owns(calls["first"].pid)
    assert not worker.owns(calls["elsewhere"].pid)
    assert calls["first"].key != calls["second"].key
    assert {row["attempt"] for row in (site.step(handle, path) for path in calls)} == {1}


def test_a_chain_over_two_pools_longer_than_one_canvas_goes_all_the_way(site: Site, worker: WorkerNode) -> None:
    with site.traffic() as traffic:
        handle = site.start("zigzag")
        assert handle.result(30) == 19
        messages = traffic.segments(handle.id)
    settled_once(site, handle)
    assert [call.path for call in site.witness.calls(handle.id)] == [f"leg_{n}" for n in range(20)]
    assert max(len(message.raw) for message in messages) <= LARGEST_MESSAGE


@pytest.mark.parametrize("name", ["pipeline", "zigzag", "fan-200", "undo-long", "steady", "n" * 200])
def test_no_message_is_larger_than_four_kilobytes(site: Site, worker: WorkerNode, name: str) -> None:
    with site.traffic() as traffic:
        handle = site.start(name, {"number": 1})
        if name.startswith("nn"):  # on queues that nobody consumes: the first message carries most
            assert len(traffic.segments(handle.id)) == 1
        else:
            eventually(lambda: handle.status() in {"succeeded", "compensated"}, f"{name} ends")
        largest = max(len(message.raw) for message in traffic.segments(handle.id))
    assert largest <= LARGEST_MESSAGE


def test_messages_are_named_by_what_they_will_do(site: Site, worker: WorkerNode) -> None:
    with site.traffic() as traffic:
        handle = site.start("pipeline", {"number": 1})
        handle.result(30)
        undone = site.start("undo-attempted")
        site.status(undone, "compensated")
        named = {message.args[2]: message.headers for message in traffic.segments(handle.id)}
        undos = {message.args[2]: message.headers for message in traffic.segments(undone.id)}
    assert {head: headers["shadow"] for head, headers in named.items()} == {
        "first": "pipeline: first > second",
        "left": "pipeline: left",
        "right": "pipeline: right > righter",
        "join": "pipeline: join",
        "elsewhere": "pipeline: elsewhere",
        "alone": "pipeline: alone",
        "last": "pipeline: last",
    }
    assert named["first"]["argsrepr"] == "pipeline: first > second"
    assert undos["undo:done"]["shadow"] == "undo-attempted: undo:done"


def test_a_worker_that_does_not_know_the_activity_fails_the_step_and_says_so(site: Site, worker: WorkerNode) -> None:
    handle = site.start("stray")
    with pytest.raises(ExecutionFailed) as failure:
        handle.result(30)
    assert failure.value.error is not None
    assert failure.value.error["name"] == "UnknownActivity"
    assert "known_to_the_starter_only" in str(failure.value.error["message"])
    assert "ORCHESTRATOR_MODULES" in str(failure.value.error["message"])


def test_an_unknown_task_name_in_the_queue_stops_nobody(site: Site, worker: WorkerNode) -> None:
    before = worker.children()
    for _ in range(5):
        site.orchestrator.app.send_task("no.such.task", queue="orchestrator")
    worker.wait_for_log("Received unregistered task", timeout=10)
    assert site.start("quick").result(30) == 1
    assert worker.alive
    assert worker.children() == before


def test_a_worker_whose_definition_differs_from_the_published_one_says_how_and_works(
    site: Site, worker: WorkerNode
) -> None:
    differing = site.worker(Pool(name="differing", queues=("elsewhere",), env=(("NODES_VALUE", "changed"),)))
    try:
        assert differing.ready()
        assert '-        "value": "original"\n+        "value": "changed"' in differing.logs()
        assert "definition is not published" in differing.logs()
        assert site.start("zigzag").result(30) == 19
        assert site.start("changing").result(30) == "original"
    finally:
        differing.teardown()
