"""What ended long ago is purged while workers work, by command and by sweep, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import uuid4

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import SWEEPS, Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator.cli import call

pytest_plugins = ("nodes.fixtures",)

HOUR = 3_600


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    keeps = (("ORCHESTRATOR_RETENTION", str(HOUR)), ("ORCHESTRATOR_SWEEP_RETENTION", "1"))
    return [Pool(name="worker", concurrency=4), Pool(name="keeper", queues=("keeper", SWEEPS), env=keeps)]


def test_purges_beside_working_workers_touch_nothing_that_is_at_work(
    site: Site, worker: WorkerNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", site.database_url)
    mark = str(uuid4())
    old = site.orchestrator.start_many("steady", [(None, {}) for _ in range(60)], correlation_id=mark)
    for handle in old:
        handle.result(30)
    site.execute(
        "UPDATE orchestrator.execution SET settled_at = now() - interval '2 h' WHERE correlation_id = :m", m=mark
    )
    capsys.readouterr()
    assert call(["purge", "--before", "90m", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"definition": "steady", "status": "succeeded", "executions": 60} in told["found"]
    assert told["purged"] == 0
    assert call(["purge", "--before", "90m"]) == 2, "nobody can be asked, and nobody has said yes"
    busy = site.orchestrator.start_many("fan-20", [(None, {}) for _ in range(40)])
    assert call(["purge", "--before", "90m", "--batch", "7", "--yes"]) == 0
    assert site.value("SELECT count(*) FROM orchestrator.execution WHERE correlation_id = :m", m=mark) == 0
    assert site.value("SELECT count(*) FROM orchestrator.step WHERE execution_id = :id", id=old[0].id) == 0
    for handle in busy:
        assert handle.result(30) == {"body": 20} or handle.status() == "succeeded"
        settled_once(site, handle)


def test_a_sweep_purges_what_is_older_than_the_settings_keep(site: Site, worker: WorkerNode) -> None:
    gone, kept = site.start("quick"), site.start("quick")
    for handle in (gone, kept):
        handle.result(10)
    site.execute("UPDATE orchestrator.execution SET settled_at = now() - interval '2 h' WHERE id = :id", id=gone.id)
    # Beats fire it where they are told to; here they are not.
    asked = {"args": ["retention"], "queue": SWEEPS}

    def purged() -> bool:
        site.orchestrator.app.send_task("orchestrator.sweep", **asked)
        return not site.execute("SELECT id FROM orchestrator.execution WHERE id = :id", id=gone.id)

    eventually(purged, "it is purged")
    assert kept.status() == "succeeded"


@pytest.mark.parametrize("when", ["soon", "2026-01-31T00:00"])
def test_a_time_that_is_none_is_one_error(
    site: Site, when: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", site.database_url)
    assert call(["purge", "--before", when, "--yes"]) == 2
    assert when in capsys.readouterr().err
