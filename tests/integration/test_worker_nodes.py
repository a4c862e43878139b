"""Operating worker nodes: which there are, which take up no more, whether all is well, and ending when it is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from nodes.process_nodes import WorkerNode
from nodes.site import WORK, Pool, Site, settled_once
from nodes.waiting import eventually
from pytest_celery import CeleryWorkerCluster

from orchestrator.cli import call

pytest_plugins = ("nodes.fixtures",)


@pytest.fixture(scope="module")
def pools() -> Sequence[Pool]:
    return [Pool(name="left"), Pool(name="right")]


@pytest.fixture
def left(celery_worker_cluster: CeleryWorkerCluster) -> WorkerNode:
    found: WorkerNode = celery_worker_cluster[0]
    return found


class Cli:
    """The command line on the site's ledger, in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What is printed, on either stream."""
        found = call(arguments)
        told = self._capture.readouterr()
        assert found == code, told.err
        return told.out + told.err

    def json(self, *arguments: str) -> Any:
        """What is printed with --json."""
        return json.loads(self(*arguments, "--json"))

    def node(self, name: str) -> dict[str, Any]:
        """The living one whose name begins so."""
        (found,) = (n for n in self.json("worker", "list") if n["name"].startswith(name) and n["state"] != "dead")
        return dict(found)


@pytest.fixture
def cli(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", site.database_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", site.broker_url)
    monkeypatch.setenv("ORCHESTRATOR_HEARTBEAT_INTERVAL", "0.5")
    return Cli(capsys)


def test_nodes_are_listed_with_what_they_do(site: Site, left: WorkerNode, cli: Cli) -> None:
    handle = site.start("plain-hold")
    call_ = site.call(handle, "work")
    holder, other = ("left", "right") if left.owns(call_.pid) else ("right", "left")
    assert (cli.node(holder)["claims"], cli.node(other)["claims"]) == (1, 0)
    assert cli.node("left")["queues"] == [WORK]
    assert cli.node("left")["pid"] == left.pid
    assert "living" in cli("worker", "list")
    site.open(handle)
    handle.result(10)


def test_a_node_that_drains_finishes_what_runs_and_takes_up_no_more(site: Site, left: WorkerNode, cli: Cli) -> None:
    held = site.start("held", {"attempts": 1})
    call_ = site.call(held, "work")
    name, stays = ("left", "right") if left.owns(call_.pid) else ("right", "left")
    assert cli.json("worker", "drain", name, "--actor", "ann", "--reason", "a new disk")["changed"]
    assert not cli.json("worker", "drain", name)["changed"]
    eventually(lambda: cli.node(name)["queues"] == [] and cli.node(name)["state"] == "draining", "it consumes nothing")
    assert "drains" in cli("health", "worker", name, code=1)
    cli("health", "worker", name, "--live")
    told = cli("worker", "drain", name, "--wait", "--timeout", "1s", code=1)
    assert "1 steps still run" in told
    # All that starts now is done by the other; what comes after the step that runs here, too.
    handles = [site.start("steady") for _ in range(20)]
    for handle in handles:
        handle.result(30)
    pids = {found.pid for handle in handles for found in site.witness.calls(handle.id)}
    assert not any(left.owns(pid) == (name == "left") for pid in pids)
    site.open(held)
    held.result(30)
    (after,) = site.witness.calls(held.id, "after")
    assert left.owns(after.pid) == (stays == "left")
    settled_once(site, held)
    cli("worker", "drain", name, "--wait", "--timeout", "30s")
    entry = site.orchestrator.audit(actor="ann")[0]
    assert (entry.command, entry.reason) == ("drain", "a new disk")
    assert entry.parameters["node"].startswith(name)
    cli("worker", "resume", name)
    eventually(lambda: cli.node(name)["queues"] == [WORK], "it consumes again")
    assert cli.node(name)["state"] == "living"
    cli("health", "worker", name)


def test_a_drained_node_stays_so_when_its_broker_comes_back(site: Site, left: WorkerNode, cli: Cli) -> None:
    cli("worker", "drain", "left")
    eventually(lambda: cli.node("left")["queues"] == [], "it consumes nothing")
    site.servers.broker.restart()
    site.forget_connections()
    handles = [site.start("steady") for _ in range(10)]
    for handle in handles:
        handle.result(30)
    pids = {found.pid for handle in handles for found in site.witness.calls(handle.id)}
    assert not any(left.owns(pid) for pid in pids)
    cli("worker", "resume", "left")
    eventually(lambda: cli.node("left")["queues"] == [WORK], "it consumes again")


def test_a_name_must_mean_one_living_node(cli: Cli, left: WorkerNode) -> None:
    assert "no living node is called nobody; there are: " in cli("worker", "drain", "nobody", code=1)
    assert "left@" in cli("worker", "drain", "nobody", code=1)
    assert "several living nodes begin with" in cli("worker", "drain", "", code=1)


def test_everything_in_order_is_told_so(site: Site, left: WorkerNode, cli: Cli) -> None:
    eventually(lambda: call(["health", "beat"]) == 0, "every sweep was fired")
    assert "takes writes" in cli("health", "ledger")
    assert "the broker answers" in cli("health", "broker")
    assert "consumes orchestrator" in cli("health", "worker", "left")
    assert cli.json("health", "worker")["healthy"]
    assert "worker nobody was never heard" in cli("health", "worker", "nobody", code=1)


def test_a_standby_is_no_ledger_in_order(site: Site, cli: Cli) -> None:
    name = site.database_url.rpartition("/")[2].partition("?")[0]
    site.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    try:
        assert "takes no writes" in cli("health", "ledger", code=1)
    finally:
        site.execute("SET default_transaction_read_only = off")
        site.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


def test_servers_that_do_not_answer_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "redis://127.0.0.1:1/0")
    assert "no broker at" in cli("health", "broker", code=1)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert "no database at 127.0.0.1:1/none" in cli("health", "ledger", code=1)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_ends_when_there_is_nothing_left_to_do(site: Site, left: WorkerNode, pool: str) -> None:
    """Also not while a step that is retried soon waits for its time."""
    queue = f"idle-{pool}"
    handles = [site.start(queue) for _ in range(3)]
    options = ["--queues", queue, "--concurrency", "1", "--pool", pool, "--name", queue, "--until-idle", "3s"]
    process = site.launch(queue, ["worker", *options])
    assert process.wait(60) == 0
    assert [handle.status() for handle in handles] == ["succeeded"] * 3
    assert "nothing left to do" in process.log.read_text()


def test_a_beat_that_fires_no_more_is_told(site: Site, left: WorkerNode, cli: Cli) -> None:
    site.without_beat()
    site.execute("UPDATE orchestrator.schedule_fire SET fire_at = fire_at - interval '1 day'")
    told = cli("health", "beat", code=1)
    assert "no beat fires: " in told
    assert "orchestrator.timers was last fired" in told
