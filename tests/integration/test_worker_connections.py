"""How many connections to the database each process of a worker holds, at most, whatever its steps ask at once."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from nodes.crowded import CROWDED, SECRET, SHOP
from nodes.process_nodes import WorkerNode
from nodes.site import WORK, Pool, Site, settled_once
from pydantic import SecretStr
from pytest_celery import CeleryWorkerCluster
from sqlalchemy import make_url

from orchestrator.ledger import secrets
from orchestrator.model.state import FINAL_EXECUTIONS

pytest_plugins = ("nodes.fixtures",)

PREFORK, THREADS, SOLO = CROWDED
AT_ONCE = 3
KEY = secrets.new_key()


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    connector = {"kind": "http", "base_url": "https://shop.test", "bearer": {"secret": SECRET}}
    env = (
        ("ORCHESTRATOR_SECRET_KEYS", KEY),
        ("ORCHESTRATOR_CONNECTORS", json.dumps({SHOP: connector})),
        ("ORCHESTRATOR_HEARTBEAT_INTERVAL", "0.1"),
    )
    return [
        Pool(name="crowded", queues=(PREFORK, WORK), concurrency=AT_ONCE, env=env),
        Pool(name="crowded-threads", queues=(THREADS,), concurrency=AT_ONCE, pool="threads", env=env),
        Pool(name="crowded-solo", queues=(SOLO,), concurrency=AT_ONCE, pool="solo", env=env),
    ]


def test_a_process_has_two_connections_at_most_and_one_of_threads_two_more_than_threads(
    site: Site, celery_worker_cluster: CeleryWorkerCluster
) -> None:
    nodes: list[WorkerNode] = list(celery_worker_cluster)
    prefork, threads, solo, sweeper = nodes
    with site.orchestrator.core.database.connect() as connection:
        secrets.put(connection, secrets.Keys([SecretStr(KEY)]), "default", SECRET, "hunter2")
    handles = [site.start(queue) for _ in range(8) for queue in CROWDED]
    port, most = make_url(site.database_url).port or 0, dict[int, int]()
    while any(handle.status() not in FINAL_EXECUTIONS for handle in handles):
        for node in nodes:
            for pid, count in node.connections_to(port).items():
                most[pid] = max(count, most.get(pid, 0))
    for handle in handles:
        assert handle.result(0) == 1
        settled_once(site, handle)
    processes = {pid: most[pid] for node in (prefork, sweeper) for pid in (node.pid, *node.children())}
    assert len(processes) == (1 + AT_ONCE) + (1 + 1)
    assert all(1 <= count <= 2 for count in processes.values()), processes
    assert most[solo.pid] <= 2
    assert AT_ONCE <= most[threads.pid] <= AT_ONCE + 2
