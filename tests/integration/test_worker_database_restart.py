"""The database goes away while workers settle: they wait, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Site, settled_once
from nodes.waiting import eventually

pytest_plugins = ("nodes.fixtures",)


@pytest.mark.parametrize("end", ["restart", "kill"])
def test_everything_finishes_and_nothing_is_done_twice(site: Site, worker: WorkerNode, end: str) -> None:
    names, mark = ("steady", "fan-2", "effects"), str(uuid4())
    handles = {
        name: site.orchestrator.start_many(name, [(None, {}) for _ in range(40)], correlation_id=mark) for name in names
    }
    everyone = [handle for found in handles.values() for handle in found]
    counting = "SELECT count(*) FROM orchestrator.execution WHERE correlation_id = :mark AND status = 'succeeded'"
    eventually(lambda: site.value(counting, mark=mark) > 10, "work is under way")
    if end == "kill":
        site.servers.postgres.kill()
    site.servers.postgres.restart()
    assert site.value(counting, mark=mark) < len(everyone), "it happened in the middle of work"
    for handle in everyone:
        handle.result(40)
        settled_once(site, handle)
    for name in ("steady", "fan-2"):
        for handle in handles[name]:
            calls = Counter(call.path for call in site.witness.calls(handle.id))
            assert set(calls.values()) == {1}, calls
    # A transactional activity may be called again when its transaction was lost; its effect is there once.
    rows = site.execute("SELECT execution, path, count(*) FROM effect GROUP BY 1, 2 HAVING count(*) > 1")
    assert rows == []
    for handle in handles["effects"]:
        assert site.value("SELECT count(*) FROM effect WHERE execution = :id", id=handle.id) == 5
    assert worker.alive
