"""Long segments that give way: to a shutdown, and to others."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

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
    leaves_the_rest_to_others(site, worker, "SIGTERM", "Warm shutdown")


def test_a_child_that_has_not_said_yet_that_it_begins_does_not_hold_up_the_end(site: Site) -> None:
    """Celery forgets such a task as its consumer ends; the child carries it out, and waits for the answer."""
    # By now the only one.
    worker = site.worker(Pool(name="suspended", concurrency=1))
    try:
        assert site.start("quick").result(20) == 1
        (child,) = worker.children()
        os.kill(child, signal.SIGSTOP)
        site.start("quick")
        eventually(lambda: unread(child), "the child has been given it")
        before = threads(worker)
        worker.container.kill("SIGTERM")
        # While its pool ends, a thread fires timers.
        eventually(lambda: threads(worker) > before, "its consumer has ended")
        os.kill(child, signal.SIGCONT)
        assert worker.wait_ended(15) == 0
    finally:
        worker.teardown()


def test_a_worker_that_is_to_end_soon_ends_its_step_in_that_time_and_begins_no_other(site: Site) -> None:
    # By now the only one.
    worker = site.worker(Pool(name="softly", concurrency=1, env=(("SOFT_SHUTDOWN", "4"),)))
    try:
        leaves_the_rest_to_others(site, worker, "SIGQUIT", "Initiating Soft Shutdown")
    finally:
        worker.teardown()


def leaves_the_rest_to_others(site: Site, worker: WorkerNode, signal_name: str, told: str) -> None:
    """Tell the only worker to end while it holds the first of many steps; another goes on with the second."""
    handle = site.start("fused")
    site.call(handle, "first")
    worker.container.kill(signal_name)
    worker.wait_for_log(told, timeout=10)
    left = worker.children()
    site.open(handle)
    code = worker.wait_ended(20)
    assert code == 0 or signal_name != "SIGTERM"
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


def unread(pid: int) -> int:
    """Bytes that lie in the pipes of a process."""
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        if str(file.readlink()).startswith("pipe:"):
            end = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
            try:
                found += int.from_bytes(fcntl.ioctl(end, termios.FIONREAD, bytes(4)), sys.byteorder)
            finally:
                os.close(end)
    return found


def threads(worker: WorkerNode) -> int:
    """How many there are in its main process."""
    return len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
