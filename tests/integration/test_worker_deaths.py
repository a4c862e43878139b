"""Children and nodes that are killed or frozen while they hold a claim."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually
from nodes.witness import Call
from pytest_celery import CeleryWorkerCluster

from orchestrator import ExecutionHandle

pytest_plugins = ("nodes.fixtures",)

SLOTS = 2
#: Measured at 0.2 s; the promise is half a second, the rest is for busy machines.
SOON = 5.0


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name=name, concurrency=SLOTS, env=(("ORCHESTRATOR_MAX_CRASHES", "6"),)) for name in ("left", "right")]


@pytest.fixture
def pair(celery_worker_cluster: CeleryWorkerCluster) -> tuple[WorkerNode, WorkerNode]:
    """Two nodes on one queue."""
    return celery_worker_cluster[0], celery_worker_cluster[1]


def holder(pair: tuple[WorkerNode, WorkerNode], call: Call) -> tuple[WorkerNode, WorkerNode]:
    """The node that an activity runs on, and the other."""
    left, right = pair
    return (left, right) if left.owns(call.pid) else (right, left)


def test_a_step_whose_process_is_killed_runs_again_at_once(site: Site, pair: tuple[WorkerNode, WorkerNode]) -> None:
    handle = site.start("held", {"attempts": 1})
    call = site.call(handle, "work")
    killed = time.monotonic()
    os.kill(call.pid, signal.SIGKILL)
    assert site.call(handle, "work", attempt=2).at - killed < SOON
    assert handle.result(10) == 7
    settled_once(site, handle)
    assert site.step(handle, "work")["attempt"] == 2
    assert [event["attempt"] for event in site.events(handle, "step_succeeded")] == [2, 1]
    assert [event["attempt"] for event in site.events(handle, "step_released")] == [1]
    assert len({c.key for c in site.witness.calls(handle.id, "work")}) == 1
    assert all(node.alive for node in pair)


def test_a_process_that_is_told_to_end_in_an_activity_has_its_step_given_back(
    site: Site, pair: tuple[WorkerNode, WorkerNode]
) -> None:
    """The signal comes out of the activity as SystemExit, which is no outcome of the step's."""
    handle = site.start("held", {"attempts": 1})
    os.kill(site.call(handle, "work").pid, signal.SIGTERM)
    site.call(handle, "work", attempt=2)
    assert handle.result(10) == 7
    settled_once(site, handle)
    assert [event["attempt"] for event in site.events(handle, "step_released")] == [1]
    assert site.step(handle, "work")["failures"] == 0
    assert all(node.alive for node in pair)


def test_a_worker_that_is_told_to_end_at_once_gives_back_what_it_is_at(
    site: Site, pair: tuple[WorkerNode, WorkerNode]
) -> None:
    handle = site.start("held", {"attempts": 1})
    told, other = holder(pair, site.call(handle, "work"))
    told.container.kill("SIGQUIT")
    again = site.call(handle, "work", attempt=2, within=SOON)
    assert other.owns(again.pid)
    assert handle.result(10) == 7
    settled_once(site, handle)
    counted = site.execute("SELECT failures, crashes FROM orchestrator.step WHERE execution_id = :id", id=handle.id)
    assert counted == [(0, 0)] * 2, "nobody's fault"
    eventually(lambda: not told.alive, "it has ended")
    told.restart()


def test_a_death_after_the_broker_was_away_is_noticed_as_soon(site: Site, pair: tuple[WorkerNode, WorkerNode]) -> None:
    """With each connection that is lost Celery forgets its timers, and hooks its own functions into the pool anew."""
    site.servers.broker.restart()
    site.forget_connections()
    assert [site.start("quick").result(30) for _ in range(4 * SLOTS)] == [1] * 4 * SLOTS
    for _ in pair:
        handle = site.start("held", {"attempts": 1})
        call = site.call(handle, "work")
        killed = time.monotonic()
        os.kill(call.pid, signal.SIGKILL)
        assert site.call(handle, "work", attempt=2).at - killed < SOON
        assert handle.result(10) == 7
        settled_once(site, handle)


def test_a_death_while_the_broker_is_away_is_noticed_too(site: Site, pair: tuple[WorkerNode, WorkerNode]) -> None:
    handle = site.start("held", {"attempts": 1})
    call = site.call(handle, "work")
    site.servers.broker.stop()
    try:
        os.kill(call.pid, signal.SIGKILL)
        eventually(lambda: site.events(handle, "step_released"), "the claim is given back", SOON)
    finally:
        site.servers.broker.start()
    site.forget_connections()
    assert handle.result(30) == 7
    settled_once(site, handle)


def test_a_step_survives_as_many_killed_processes_as_it_is_let(site: Site, pair: tuple[WorkerNode, WorkerNode]) -> None:
    handle = site.start("held", {"attempts": 5})
    for attempt in range(1, 6):
        os.kill(site.call(handle, "work", attempt, within=SOON).pid, signal.SIGKILL)
    assert handle.result(10) == 7
    settled_once(site, handle)
    assert [call.attempt for call in site.witness.calls(handle.id, "work")] == [1, 2, 3, 4, 5, 6]
    assert site.step(handle, "work")["failures"] == 0, "a death is no failure of the step: its retries are left"


def test_a_transactional_step_whose_process_is_killed_has_its_effect_once(
    site: Site, pair: tuple[WorkerNode, WorkerNode]
) -> None:
    handle = site.start("held-effect")
    os.kill(site.call(handle, "work").pid, signal.SIGKILL)
    handle.result(10)
    assert site.execute("SELECT attempt FROM effect WHERE execution = :id", id=handle.id) == [(2,)]


def test_the_claims_of_a_killed_node_are_finished_by_another(site: Site, pair: tuple[WorkerNode, WorkerNode]) -> None:
    handles = [site.start("held", {"attempts": 1}) for _ in range(2 * SLOTS)]
    calls = {handle.id: site.call(handle, "work") for handle in handles}
    killed, other = holder(pair, calls[handles[0].id])
    lost = [handle for handle in handles if killed.owns(calls[handle.id].pid)]
    others = [handle for handle in handles if handle not in lost]
    assert len(lost) == len(others) == SLOTS
    killed.kill()
    for handle in others:
        site.open(handle)
    for handle in lost:
        assert handle.result(30) == 7
        again = site.call(handle, "work", attempt=2)
        assert other.owns(again.pid)
        settled_once(site, handle)
    for handle in others:
        assert handle.result(30) == 7
        assert site.step(handle, "work")["attempt"] == 1
    killed.restart()
    assert killed.alive


@pytest.mark.parametrize("name", ["held", "held-effect"])
def test_a_frozen_node_that_wakes_up_writes_nothing_and_works_on_under_a_new_name(
    site: Site, pair: tuple[WorkerNode, WorkerNode], name: str
) -> None:
    handle = site.start(name, {"attempts": 1})
    call = site.call(handle, "work")
    frozen, other = holder(pair, call)
    before = site.boot_id(frozen)
    pids = frozen.freeze()
    try:
        again = site.call(handle, "work", attempt=2)
        assert other.owns(again.pid)
        handle.result(10)
        history = len(handle.events())
        site.open(handle)
    finally:
        frozen.thaw(pids)
    eventually(lambda: site.events(handle, "attempt_fenced"), "the late attempt is fenced")
    assert [event["attempt"] for event in site.events(handle, "attempt_fenced")] == [1]
    assert len(handle.events()) == history + 1
    assert [c.attempt for c in site.witness.calls(handle.id, "work", "ended")] == [2, 1], "both attempts ran to the end"
    settled_once(site, handle)
    if name == "held-effect":
        assert site.execute("SELECT attempt FROM effect WHERE execution = :id", id=handle.id) == [(2,)]
    now = eventually(lambda: site.boot_id(frozen), "the node registers again")
    assert now != before
    works_again(site, frozen, now)


def works_again(site: Site, node: WorkerNode, boot_id: str) -> None:
    """One more step than the other node has room for: this one must take some, under its new name."""
    handles = [site.start("plain-hold") for _ in range(SLOTS + 1)]
    calls = [(handle, site.call(handle, "work")) for handle in handles]
    own = [handle for handle, call in calls if node.owns(call.pid)]
    assert own
    for handle in own:
        assert _owner(site, handle).startswith(boot_id)
    for handle in handles:
        site.open(handle)
        handle.result(10)
        settled_once(site, handle)


def _owner(site: Site, handle: ExecutionHandle) -> str:
    return str(site.events(handle, "step_started")[0]["data"]["owner"])
