"""Long segments that give way: to a shutdown, and to others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

pytest_plugins = ("nodes.fixtures",)


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="leaving", concurrency=1)]


def test_a_long_segment_does_not_starve_others(site: Site, worker: WorkerNode) -> None:
    with site.traffic() as traffic:
        long = site.start("slow-steps")
        site.call(long, "step_0")
        short = site.start("quick")
        assert short.result(20) == 1
        assert long.status() == "running"
        long.result(20)
        segments = len(traffic.segments(long.id))
    settled_once(site, long)
    # Twelve steps of 0.25 s and a budget of 1 s; the last segment may be a short one.
    assert 3 <= segments <= 5


def test_a_worker_that_is_told_to_stop_ends_its_step_and_leaves_the_rest_to_others(
    site: Site, worker: WorkerNode
) -> None:
    handle = site.start("fused")
    site.call(handle, "first")
    worker.container.kill("SIGTERM")
    worker.wait_for_log("Warm shutdown", timeout=10)
    left = worker.children()
    site.open(handle)
    assert worker.wait_ended(20) == 0
    done = site.steps(handle)
    assert done == {"first": "succeeded", "step_00": "ready"}, "it gave way at the next step"
    staying = site.worker(Pool(name="staying", concurrency=1))
    try:
        assert handle.result(30) == 19
        calls = site.witness.calls(handle.id)
        assert [call.path for call in calls] == ["first", *(f"step_{n:02}" for n in range(20))]
        assert [call.pid in left for call in calls] == [True, *[False] * 20]
        assert {call.attempt for call in calls} == {1}
        settled_once(site, handle)
        eventually(lambda: site.boot_id(worker) is None, "the node has said goodbye")
        assert not site.events(handle, "step_released")
    finally:
        staying.teardown()
