"""Retries, timeouts and deadlines on real worker pools."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionFailed

pytest_plugins = ("nodes.fixtures",)


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=4), Pool(name="threads", queues=("threads",), pool="threads")]


def test_a_failed_attempt_is_followed_by_another_after_its_backoff(site: Site, worker: WorkerNode) -> None:
    handle = site.start("flaky")
    assert handle.result(20) == 3
    first, second, third = site.witness.calls(handle.id)
    assert second.at - first.at >= 0.4
    assert third.at - second.at >= 0.8
    assert [event["attempt"] for event in site.events(handle, "step_retrying")] == [1, 2]
    assert site.step(handle, "work")["failures"] == 2
    settled_once(site, handle)


def test_after_the_last_attempt_the_execution_fails_with_its_error(site: Site, worker: WorkerNode) -> None:
    handle = site.start("exhausted")
    with pytest.raises(ExecutionFailed) as failure:
        handle.result(20)
    assert failure.value.status == "failed"
    assert failure.value.error is not None
    assert (failure.value.error["category"], failure.value.error["step"]) == ("transient", "work")
    assert len(site.witness.calls(handle.id)) == 3
    settled_once(site, handle)


def test_a_business_error_is_not_tried_again(site: Site, worker: WorkerNode) -> None:
    handle = site.start("refused")
    with pytest.raises(ExecutionFailed, match="as told"):
        handle.result(20)
    assert len(site.witness.calls(handle.id)) == 1


def test_an_attempt_that_fails_once_the_execution_is_failing_is_the_last(site: Site, worker: WorkerNode) -> None:
    handle = site.start("late-failure")
    site.call(handle, "slow")
    site.open(handle, "refusal")
    site.status(handle, "failing")
    site.open(handle)
    site.status(handle, "failed")
    assert site.steps(handle) == {"refused": "failed", "slow": "failed"}
    assert not site.events(handle, "step_retrying")
    assert len(site.witness.calls(handle.id, "slow")) == 1
    settled_once(site, handle)


@pytest.mark.parametrize("name", ["overslept", "overslept-async", "swallowed"])
def test_an_attempt_is_interrupted_at_its_timeout(site: Site, worker: WorkerNode, name: str) -> None:
    children = worker.children()
    handle = site.start(name)
    assert handle.result(20) == 2
    first, second = site.witness.calls(handle.id)
    assert 0.5 <= second.at - first.at < 5
    (retry,) = site.events(handle, "step_retrying")
    assert retry["data"]["error"]["category"] == "timeout"
    assert worker.children() == children, "the attempt was interrupted, its process was not killed"
    settled_once(site, handle)


def test_an_attempt_in_a_thread_is_fenced_after_its_timeout_and_writes_nothing(site: Site, worker: WorkerNode) -> None:
    handle = site.start("threaded")
    site.call(handle, "work")
    handle.result(20)
    assert site.step(handle, "work")["attempt"] == 2
    (retry,) = site.events(handle, "step_retrying")
    assert "fenced" in retry["data"]["error"]["message"]
    site.open(handle)
    eventually(lambda: site.events(handle, "attempt_fenced"), "the late attempt is fenced")
    settled_once(site, handle)


def test_an_execution_past_its_deadline_ends_with_its_running_attempt(site: Site, worker: WorkerNode) -> None:
    handle = site.start("expiring")
    site.call(handle, "work")
    site.status(handle, "timing_out")
    site.open(handle)
    with pytest.raises(ExecutionFailed) as failure:
        handle.result(20)
    assert failure.value.status == "timed_out"
    assert failure.value.error is not None
    assert failure.value.error["name"] == "DeadlineExceeded"
    assert site.steps(handle) == {"work": "succeeded"}, "what was done is kept, nothing follows"
    settled_once(site, handle)


def test_a_fault_between_a_settle_and_the_next_step_leaves_no_claim_behind(site: Site, worker: WorkerNode) -> None:
    """The settle has committed, and has claimed the next step with it, before our own code raises."""
    handle = site.start("sabotaged")
    site.status(handle, "failed")
    assert site.steps(handle) == {"one": "succeeded", "two": "failed"}
    assert not site.witness.calls(handle.id, "two")
    settled_once(site, handle)
