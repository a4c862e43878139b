"""Messages that are doubled, late or lost, and what they must not do to joins."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import WORK, Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionHandle
from orchestrator.ledger import claims, joins
from orchestrator.model.loop import Lanes

pytest_plugins = ("nodes.fixtures",)


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=4), Pool(name="other", queues=("elsewhere",))]


@pytest.fixture(scope="module", autouse=True)
def _only_ours(site: Site, celery_worker_cluster: object) -> None:
    """Workers that other modules have killed held messages, which the broker keeps for them for an hour."""
    site.broker.disregard()


def quiet(site: Site) -> None:
    """Wait until no message waits and none is being worked on."""
    eventually(
        lambda: not any(map(site.broker.length, (WORK, "elsewhere"))) and not site.broker.unacknowledged(),
        "all is consumed",
    )


def called_once(site: Site, handle: ExecutionHandle) -> None:
    """Assert that no activity was called twice."""
    calls = Counter(call.path for call in site.witness.calls(handle.id))
    assert set(calls.values()) == {1}, calls


def test_doubled_and_late_messages_change_nothing(site: Site, worker: WorkerNode) -> None:
    with site.traffic(doubling=True) as traffic:
        handles = [
            site.start(name, {"number": 1})
            for name in ("pipeline", "fan-2", "fan-20", "zigzag", "undo-attempted", "undo-long")
        ]
        for handle in handles:
            eventually(lambda: handle.status() in {"succeeded", "compensated"}, f"{handle} ends")  # noqa: B023
        quiet(site)
        messages = traffic.segments()
    before = {handle.id: handle.events() for handle in handles}
    for message in messages:
        site.deliver(message)
    quiet(site)
    for handle in handles:
        settled_once(site, handle)
        assert handle.events() == before[handle.id]
        if site.events(handle, "execution_succeeded"):
            called_once(site, handle)
    assert worker.alive


@pytest.mark.parametrize("width", [1, 2, 200])
def test_the_body_behind_a_fan_out_is_published_and_called_once(site: Site, worker: WorkerNode, width: int) -> None:
    with site.traffic() as traffic:
        handle = site.start(f"fan-{width}")
        assert handle.result(30) == width
        bodies = [message for message in traffic.segments(handle.id) if message.args[2] == "body"]
    called_once(site, handle)
    settled_once(site, handle)
    assert len(bodies) == (1 if width > 1 else 0)


def test_two_that_arrive_last_together_let_the_body_run_once(site: Site, worker: WorkerNode) -> None:
    for _ in range(50):
        handle = site.start("race")
        assert handle.result(30) == 1
        called_once(site, handle)
        settled_once(site, handle)


def test_the_body_runs_once_after_a_header_s_process_was_killed(site: Site, worker: WorkerNode) -> None:
    handle = site.start("held-fan")
    call = site.call(handle, "slow")
    eventually(lambda: site.steps(handle)["quicker"] == "succeeded", "the other branches end")
    os.kill(call.pid, signal.SIGKILL)
    assert handle.result(10) == 1
    assert Counter(call.path for call in site.witness.calls(handle.id)) == {
        "quick": 1,
        "quicker": 1,
        "slow": 2,
        "body": 1,
    }
    settled_once(site, handle)


def no_loops(path: str) -> Lanes:
    raise LookupError(f"there is no loop {path}")


def test_a_header_delivered_again_publishes_a_body_that_was_made_ready_and_never_published(
    site: Site, worker: WorkerNode
) -> None:
    """What a process leaves behind that is killed between making the join ready and publishing its body."""
    handle = site.start("unserved-fan")
    headers = site.waiting("unserved")
    site.broker.drop("unserved")
    assert [message.args[2] for message in headers] == ["one", "other"]
    with site.orchestrator.core.database.connect() as connection:
        for message in headers:
            execution_id, definition_id, path = message.args
            taken = claims.claim(
                connection,
                execution_id,
                path,
                owner="killed",
                transactional=False,
                timeout=None,
            )
            assert taken is not None
            graph = site.orchestrator.core.graphs.get(connection, definition_id)
            assert claims.settle_and_spread(
                connection, taken[0], "null", successors=graph.follow(path, None, no_loops).rows
            )
        assert joins.join(connection, handle.id, "body")
    # A duplicate takes up what has been left alone for a second.
    aged = (
        "UPDATE orchestrator.step SET ready_at = ready_at - interval '2 s' WHERE execution_id = :id AND path = 'body'"
    )
    site.execute(aged, id=handle.id)
    site.deliver(headers[0], WORK)
    bodies = eventually(lambda: site.waiting("unserved"), "the body is published", within=10)
    assert {message.args[2] for message in bodies if message.task == "orchestrator.segment"} == {"body"}
    for message in bodies:
        site.deliver(message, WORK)
    handle.result(10)
    quiet(site)
    site.deliver(headers[1], WORK)
    quiet(site)
    assert [call.path for call in site.witness.calls(handle.id)] == ["body"]
    settled_once(site, handle)
