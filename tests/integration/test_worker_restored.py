"""A ledger is restored from a backup that is older than what was done: what may be done again is, the rest waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from nodes.backups import back_up, restore
from nodes.site import Pool, Site, settled_once
from nodes.waiting import eventually

from orchestrator import ExecutionHandle
from orchestrator.cli import call as call_cli

pytest_plugins = ("nodes.fixtures",)

#: As of other modules, which then need not start another.
POOLS = [Pool(name="worker", concurrency=4)]
#: What a site's nodes go by, in seconds.
DEAD_AFTER = "3"

Cli = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return POOLS


@pytest.fixture
def cli(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Carries out a command line that says what it did in JSON."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", site.database_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", site.broker_url)
    monkeypatch.setenv("ORCHESTRATOR_MODULES", "nodes.restored,nodes.workflows")
    monkeypatch.setenv("ORCHESTRATOR_DEAD_AFTER", DEAD_AFTER)

    def carry_out(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert call_cli([*words, "--json"]) == code
        said = capsys.readouterr()
        return dict(json.loads(said.out)) if code == 0 else {"error": said.err}

    return carry_out


def held(site: Site, handle: ExecutionHandle) -> bool:
    return handle.status() == "paused"


def test_a_ledger_that_is_older_than_what_was_done(site: Site, celery_worker_cluster: object, cli: Cli) -> None:
    within, outside, answered, around = (
        site.start(name) for name in ("all-within", "all-outside", "outside-answered", "around-a-child")
    )
    for handle, path in ((within, "first"), (outside, "work"), (around, "wide")):
        site.call(handle, path)
    site.step_status(answered, "answer", "waiting")
    assert "was heard" in cli("restored", code=1)["error"], "workers are at work"
    site.still()
    backup = back_up(site)

    # What the backup does not know: everything is done, and more was started.
    site.running(*POOLS)
    for handle in (within, outside, around):
        site.open(handle)
    site.orchestrator.signal(answered.id, "answer", "yes")
    later = site.start("all-outside")
    site.open(later)
    for handle in (within, outside, answered, around, later):
        handle.result(30)
    done = {handle.id: site.witness.calls(handle.id) for handle in (outside, around)}
    site.still()

    restore(site, backup)
    assert site.step(outside, "work")["status"] == "running", "its owner died before the backup, and nobody saw it"
    planned = eventually(lambda: _told(cli, "restored", "--dry-run"), "the nodes of then are not taken for alive")
    assert not held(site, outside), "a dry run changes nothing"
    told = cli("restored", "--reason", "the disk")
    for plan in (planned, told):
        held_steps = {each["definition"]: each["steps"] for each in plan["held"]}
        assert held_steps["all-outside"] == ["work", "after"]
        assert held_steps["around-a-child"] == ["child"]
        assert not {"all-within", "outside-answered"} & held_steps.keys()
        assert plan["released"] >= 3
    assert held(site, outside)
    assert held(site, around)
    incident = next(found for found in _incidents(site) if "all-outside" in found["title"])
    assert incident["detail"]["steps"] == ["work", "after"]
    shown = site.orchestrator.incident(str(incident["id"]))
    assert [str(subject["execution_id"]) for subject in shown["subjects"]] == [outside.id]
    explained = site.orchestrator.explain(outside.id).as_data()
    assert "this may have been done since: work, after" in json.dumps(explained)
    again = cli("restored")
    assert again["held"] == told["held"], "done twice, it finds the same"
    assert len(_incidents(site)) == len({found["fingerprint"] for found in _incidents(site)})

    # Transactional steps are done once more, and their first effects went with the ledger that knew of them.
    site.running(*POOLS)
    within.result(30)
    site.orchestrator.signal(answered.id, "answer", "yes")
    answered.result(30)
    assert sorted(site.execute("SELECT path, count(*) FROM effect WHERE execution = :id GROUP BY 1", id=within.id)) == [
        ("first", 1),
        ("second", 1),
    ]
    # Of the rest nothing is done until somebody has looked.
    assert site.witness.calls(outside.id) == done[outside.id]
    site.orchestrator.complete(outside.id, "work", output="called", actor="ann", reason="the log shows it")
    site.orchestrator.complete(outside.id, "after", output="called", actor="ann")
    site.orchestrator.resume(outside.id, actor="ann")
    assert outside.result(30) == "called"
    assert site.witness.calls(outside.id) == done[outside.id], "nothing was done twice"
    site.orchestrator.resume(around.id, actor="ann", reason="the child does no harm")
    around.result(30)
    for handle in (within, outside, answered, around):
        settled_once(site, handle)
        assert not site.orchestrator.replay(handle.id).differences
    # Other modules may have left executions behind, for which nobody does this.
    mine = {"all-outside", "around-a-child"}
    eventually(lambda: not mine & {found["detail"]["definition"] for found in _incidents(site)}, "the incidents close")


def _told(cli: Cli, *words: str) -> dict[str, Any] | None:
    try:
        return cli(*words)
    except AssertionError:
        return None


def _incidents(site: Site) -> list[dict[str, Any]]:
    return site.orchestrator.incidents(kind="restored")
