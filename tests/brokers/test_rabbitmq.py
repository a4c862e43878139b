"""Workers on RabbitMQ that is killed and comes back: what they hold goes on, and what was not published is found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kombu import Connection
from nodes.process_nodes import WorkerNode
from nodes.site import WORK, Pool, Site, settled_once
from nodes.waiting import eventually
from pytest_celery import CeleryBrokerCluster

pytest_plugins = ("nodes.fixtures",)

SLOTS = 4


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=SLOTS)]


def test_workers_with_unacknowledged_messages_survive_a_killed_broker_and_call_nothing_twice(
    site: Site, worker: WorkerNode, celery_broker_cluster: CeleryBrokerCluster
) -> None:
    pid, children = worker.pid, worker.children()
    held = [site.start("plain-hold") for _ in range(SLOTS)]
    for handle in held:
        site.call(handle, "work")
    assert site.broker.unacknowledged() >= SLOTS
    celery_broker_cluster[0].kill()
    meanwhile = [site.start(name) for name in ("quick", "fan-2", "flaky")]
    celery_broker_cluster[0].restart()
    for handle in held:
        site.open(handle)
    for handle in (*held, *meanwhile):
        handle.result(30)
        settled_once(site, handle)
    # Their messages come again, as they were not acknowledged, and find everything done.
    assert all(len(site.witness.calls(handle.id)) == 1 for handle in held)
    assert [site.start("quick").result(30) for _ in range(SLOTS)] == [1] * SLOTS
    assert worker.alive
    assert (worker.pid, worker.children()) == (pid, children)


def test_a_queue_deleted_under_its_workers_is_made_again(site: Site, worker: WorkerNode) -> None:
    assert site.start("quick").result(30) == 1
    with Connection(site.broker_url) as connection:
        connection.channel().queue_delete(WORK)
    handles = [site.start("quick") for _ in range(3)]
    for handle in handles:
        handle.result(30)
        settled_once(site, handle)
    eventually(lambda: site.broker.length(WORK) == 0, "nothing is left in the queue")
    assert worker.alive
