"""Many executions started at once share messages, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator.dispatch.canvas import SEPARATOR

pytest_plugins = ("nodes.fixtures",)

#: Enough for two executions a message.
MANY = 64


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=2)]


def test_a_bulk_start_shares_messages_and_a_doubled_bundle_changes_nothing(site: Site, worker: WorkerNode) -> None:
    with site.traffic(doubling=True) as traffic:
        handles = site.orchestrator.start_many("steady", [(None, None)] * MANY)
        for handle in handles:
            assert handle.result(60) == 4
        bundles = [message for message in traffic.segments() if SEPARATOR in message.args[0]]
    assert {message.args[0].count(SEPARATOR) for message in bundles} == {1}
    for handle in handles:
        settled_once(site, handle)


def test_a_bundle_gives_the_rest_back_when_its_time_is_up(site: Site, worker: WorkerNode) -> None:
    with site.traffic() as traffic:
        handles = site.orchestrator.start_many("plain-hold", [(None, None)] * MANY)
        first, second = handles[:2]
        begun = site.call(first, "work")
        overdue = "SELECT clock_timestamp() - interval '1.5 s' > :begun"
        since = site.step(first, "work")["started_at"]
        eventually(lambda: site.value(overdue, begun=since), "the first is held for longer than the segment budget")
        site.open(first)
        # A bundle's message begins with the first one's id; only what was given back has an id of its own alone.
        eventually(lambda: traffic.segments(second.id), "the second is given back")
    for handle in handles:
        site.open(handle)
    for handle in handles:
        handle.result(60)
        settled_once(site, handle)
    assert begun.attempt == 1
