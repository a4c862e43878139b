"""A half-open connection to RabbitMQ: noticed by missing heartbeats, replaced, and nothing lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once

from brokers.half_open import HalfOpen

pytest_plugins = ("nodes.fixtures",)

#: Twice the heartbeat, as long as it takes to look, and the work itself: 12 s where nothing else is busy.
NOTICED = 18.0


@pytest.fixture
def way(site: Site) -> Iterator[HalfOpen]:
    with HalfOpen(site.servers.broker.port) as found:
        yield found


@pytest.fixture
def worker(site: Site, way: HalfOpen) -> WorkerNode:
    """One whose every connection to the broker goes that way."""
    url = site.broker_url.replace(f":{site.servers.broker.port}/", f":{way.port}/")
    assert url != site.broker_url
    found, *_ = site.running(Pool(name="distant", concurrency=1, env=(("ORCHESTRATOR_BROKER_URL", url),)))
    return found


def test_a_worker_notices_soon_and_works_on(site: Site, way: HalfOpen, worker: WorkerNode) -> None:
    held = site.start("plain-hold")
    site.call(held, "work")
    pid, children = worker.pid, worker.children()
    assert way.silence() >= 1
    begun = time.monotonic()
    site.open(held)
    waiting = [site.start("quick") for _ in range(3)]
    for handle in (held, *waiting):
        handle.result(NOTICED)
        settled_once(site, handle)
    assert time.monotonic() - begun < NOTICED
    assert len(site.witness.calls(held.id)) == 1
    assert (worker.pid, worker.children()) == (pid, children)
