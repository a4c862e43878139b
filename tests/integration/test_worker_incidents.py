"""An incident of each kind opens once for many executions, and is resolved by itself, on real workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import Pool, Site
from nodes.waiting import eventually

from orchestrator.cli import call
from orchestrator.errors import IncidentNotFound

pytest_plugins = ("nodes.fixtures",)


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="worker", concurrency=4)]


def about(site: Site, kind: str, **detail: Any) -> list[dict[str, Any]]:
    """Incidents of a kind whose detail has these values, the latest first."""
    found = site.orchestrator.incidents("all", kind, limit=1_000)
    return [row for row in found if detail.items() <= row["detail"].items()]


def opened(site: Site, kind: str, count: int, **detail: Any) -> dict[str, Any]:
    """The only incident, open, once it counts so many."""

    def ask() -> dict[str, Any] | None:
        found = about(site, kind, **detail)
        return found[0] if len(found) == 1 and found[0]["count"] == count else None

    found = eventually(ask, f"{kind} counts {count}: {about(site, kind, **detail)}")
    assert found["closed_at"] is None
    return found


def resolved(site: Site, row: dict[str, Any]) -> str:
    """Why it was closed by itself."""
    ended = eventually(
        lambda: (now := site.orchestrator.incident(str(row["id"])))["closed_at"] and now, f"{row['title']} is resolved"
    )
    assert ended["closed_by"] == "system"
    return str(ended["reason"])


def test_retries_exhausted_are_one_incident_and_business_errors_none(site: Site, worker: WorkerNode) -> None:
    refused = site.start("declined")
    site.status(refused, "failed")
    handles = [site.start("spent") for _ in range(5)]
    row = opened(site, "retries_exhausted", 5, definition="spent")
    assert row["title"] == "spent, `work`: TransientError: as told"
    subjects = {str(one["execution_id"]) for one in site.orchestrator.incident(str(row["id"]))["subjects"]}
    assert subjects == {handle.id for handle in handles}
    assert about(site, "retries_exhausted", definition="declined") == []
    for handle in handles:
        site.orchestrator.skip(handle.id, "work", actor="ann")
    assert resolved(site, row) == "its executions have all gone on"


def test_failed_compensations_are_one_incident_until_they_are_carried_out_again(site: Site, worker: WorkerNode) -> None:
    handles = [site.start("stuck-undo") for _ in range(3)]
    row = opened(site, "compensation_failed", 3, definition="stuck-undo")
    assert row["detail"]["path"] == "undo:one"
    # As carrying them out again leaves the executions.
    change = """
        WITH x AS (UPDATE orchestrator.execution SET status = 'compensated', settled_at = now() WHERE id = :id
                   RETURNING id, tenant)
        INSERT INTO orchestrator.event (execution_id, tenant, type)
        SELECT id, tenant, type FROM x, (VALUES ('execution_compensating'), ('execution_compensated')) AS e(type)
    """
    for handle in handles:
        site.execute(change, id=handle.id)
    assert resolved(site, row) == "its executions have all gone on"


def test_a_queue_without_a_consumer_is_one_incident_until_somebody_consumes_it(site: Site, worker: WorkerNode) -> None:
    handles = [site.start("forsaken") for _ in range(4)]
    row = opened(site, "queue_without_consumer", 4, queue="forsaken")
    site.program("orchestrator worker --queues forsaken")
    for handle in handles:
        handle.result(30)
    assert resolved(site, row) in {"the queue is consumed again", "nothing waits in the queue any more"}


def test_an_activity_that_workers_do_not_know_is_one_incident_until_one_does(site: Site, worker: WorkerNode) -> None:
    early = site.worker(Pool(name="early", queues=("latecomer",), concurrency=1))
    try:
        assert early.ready()
        handles = [site.start("latecomer") for _ in range(3)]
        row = opened(site, "unknown_on_workers", 3, activity="come_late")
        assert row["title"] == "workers do not know the activity `come_late`"
        assert {handle.status() for handle in handles} == {"failed"}
    finally:
        early.teardown()
    modules = ("ORCHESTRATOR_MODULES", "nodes.latecomer")
    late = site.worker(Pool(name="late", queues=("latecomer",), concurrency=1, env=(modules,)))
    try:
        assert late.ready()
        assert site.start("latecomer").result(30) == "here"
        assert "the same step has succeeded since" in resolved(site, row)
    finally:
        late.teardown()


def test_drift_is_an_incident_with_its_diff_until_a_worker_agrees(site: Site, worker: WorkerNode) -> None:
    before = len(about(site, "drift", definition="changing"))
    differing = site.worker(Pool(name="drifting", queues=("nowhere",), env=(("NODES_VALUE", "changed"),)))
    try:
        assert differing.ready()
    finally:
        differing.teardown()
    row = about(site, "drift", definition="changing")[0]
    assert (len(about(site, "drift", definition="changing")), row["closed_at"]) == (before + 1, None)
    assert '+        "value": "changed"' in row["detail"]["diff"]
    site.orchestrator.prepare_worker()
    assert resolved(site, row) == "a worker has started with the published content"


@pytest.fixture
def cli(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATABASE_URL": site.database_url, "BROKER_URL": site.broker_url}.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)


@pytest.mark.usefixtures("cli")
def test_incidents_are_listed_shown_assigned_and_closed_on_the_command_line(
    site: Site, worker: WorkerNode, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = site.start("tomorrow-never")
    row = opened(site, "retries_exhausted", 1, definition="tomorrow-never")
    number = str(row["id"])

    def told(*arguments: str, code: int = 0) -> str:
        assert call(["incidents", *arguments]) == code
        return capsys.readouterr().out

    assert number in told("list", "--kind", "retries_exhausted")
    shown = told("show", number)
    assert "tomorrow-never, `work`" in shown
    assert f"orchestrator retry {handle.id}" in shown
    (subject,) = json.loads(told("show", number, "--json"))["subjects"]
    assert (subject["execution_id"], subject["command"]) == (handle.id, f"orchestrator retry {handle.id}")
    assert "bob" in told("assign", number, "bob", "--actor", "ann")
    assert "bob" in told("list")
    assert "closed" in told("close", number, "--reason", "the bank was away", "--actor", "bob")
    assert number not in told("list")
    assert "(closed by bob)" in told("list", "--all")
    (found,) = [one for one in json.loads(told("list", "--all", "--json")) if one["id"] == number]
    assert (found["assignee"], found["reason"]) == ("bob", "the bank was away")
    told("close", number, "--reason", "again", code=1)
    told("show", handle.id, code=1)
    with pytest.raises(IncidentNotFound):
        site.orchestrator.assign_incident(number, "eve")
    audit = site.execute("SELECT actor, command FROM orchestrator.audit WHERE parameters ->> 'incident' = :i", i=number)
    assert sorted(map(tuple, audit)) == [("ann", "assign incident"), ("bob", "close incident")]
