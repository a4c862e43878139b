"""The command line on real servers: executions from start to end, errors in one line, and a ledger that is damaged."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, make_url, text

from orchestrator.cli import call
from orchestrator.embedded import Processes
from orchestrator.ledger import database, migrate
from orchestrator.ledger.verify import CLAIMS, FINAL_CLAIM, verify

#: `refuse` does one step, then one that fails for good; `crawl` begins a step that takes a second.
WORKFLOWS = """
import time
from orchestrator import BusinessError, activity, compensation, machine, step, transition, wait, workflow
@activity
def refusing_do() -> dict[str, int]: return {"done": 1}
@activity
def refusing_undo() -> None: ...
@activity
def refusing_no() -> None: raise BusinessError("the answer is no", name="No")
@activity
def refusing_crawl() -> None: time.sleep(1)
refuse = workflow("refuse",
    step("first", refusing_do, compensation=compensation(refusing_undo)),
    step("second", refusing_do, compensation=compensation(refusing_undo)),
    step("third", refusing_no))
crawl = workflow("crawl", step("slow", refusing_crawl))
await_word = workflow("await-word", wait("word", "word"))
await_event = workflow("await-event", wait("word", "word", correlation="{{ input.about }}"))
door = machine("door", initial="closed", states=["closed", "open"], final=["open"],
    transitions=[transition("closed", "open", event="OPEN", actors=["keeper"])])
"""


@dataclass(frozen=True)
class Cli:
    """The command line with the settings of one ledger."""

    engine: Engine
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        code = call(arguments)
        told = self.capture.readouterr()
        return code, told.out, told.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with --json."""
        found, out, err = self(*arguments, "--json")
        assert (found, "Traceback" in err) == (code, False), err
        return json.loads(out)


def new_database(url: str, name: str) -> str:
    """A database of its own beside the session's."""
    engine = database.connect(url, pool_size=1, lock_timeout=10)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def ledger(database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A migrated ledger with a worker on it; the environment names both."""
    root = tmp_path_factory.mktemp("cli")
    (root / "refusals.py").write_text(WORKFLOWS)
    url = new_database(database_url, "cli")
    engine = database.connect(url, pool_size=2, lock_timeout=10)
    with pytest.MonkeyPatch.context() as patch, Processes(root) as processes:
        patch.setenv("ORCHESTRATOR_DATABASE_URL", url)
        patch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)
        patch.setenv("ORCHESTRATOR_MODULES", "definitions.greeting,refusals")
        patch.setenv("ORCHESTRATOR_DEFAULT_QUEUE", "cli")
        patch.setenv("ORCHESTRATOR_SWEEP_QUEUE", "cli.sweeps")
        patch.setenv("PYTHONPATH", str(root))
        patch.syspath_prepend(root)
        assert call(["migrate"]) == 0
        arguments = ["worker", "--name", "cli", "--concurrency", "1", "--log-format", "json"]
        worker = processes.start("worker", [sys.executable, "-m", "orchestrator.cli", *arguments])
        yield engine
        assert worker.returncode is None, worker.log.read_text()
        logged = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
        assert any(record["message"] == "node registered" for record in logged)
    engine.dispose()


@pytest.fixture
def cli(ledger: Engine, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(ledger, capsys)


def start(cli: Cli, name: str, *options: str, code: int = 0) -> Any:
    return cli.json("start", name, *options, code=code)


def greet(cli: Cli, *options: str) -> Any:
    return start(cli, "greeting", "--input", '{"name": "Ada"}', "--wait=60", *options)


def test_an_execution_is_started_awaited_listed_shown_and_told(cli: Cli) -> None:
    done = greet(cli, "--correlation-id", "c-1", "--label", "team=blue", "--key", "k-1")
    assert (done["status"], done["output"], done["created"]) == ("succeeded", "Hello, Ada! -- the orchestrator", True)
    (row,) = cli.json("list", "--correlation-id", "c-1")
    assert (row["id"], row["status"], row["idempotency_key"]) == (done["id"], "succeeded", "k-1")
    shown = cli.json("show", done["id"])
    assert shown["execution"]["labels"] == {"team": "blue"}
    assert [found["path"] for found in shown["steps"]] == ["compose", "sign"]
    _, out, _ = cli("events", done["id"], "--follow", "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert told == shown["events"]
    assert told[-1]["type"] == "execution_succeeded"


def test_the_same_key_gives_the_same_execution(cli: Cli) -> None:
    first, second = greet(cli, "--key", "again"), greet(cli, "--key", "again")
    assert first["id"] == second["id"]
    assert (first["created"], second["created"]) == (True, False)


def test_the_input_may_come_from_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"name": "Grace"}')
    assert start(cli, "greeting", "--input", f"@{file}", "--wait=60")["output"].startswith("Hello, Grace!")


def test_a_signal_and_an_event_reach_those_who_wait(cli: Cli) -> None:
    waiting, listening = start(cli, "await-word")["id"], start(cli, "await-event", "--input", '{"about": "tea"}')["id"]
    assert cli.json("signal", waiting, "word", "--payload", '"now"', "--id", "1") == {"accepted": True}
    assert cli.json("signal", waiting, "word", "--payload", '"now"', "--id", "1") == {"accepted": False}
    assert cli("emit", "word", "tea", "--payload", '"then"')[1] == "accepted\n"
    assert [ended(cli, found)["output"] for found in (waiting, listening)] == ["now", "then"]


def test_an_event_moves_a_machine_unless_it_is_refused(cli: Cli) -> None:
    door = start(cli, "door")["id"]
    code, _, err = cli("send", door, "KNOCK")
    assert (code, "allowed now: OPEN" in err) == (1, True)
    code, _, err = cli("send", door, "OPEN", "--actor", "ann")
    assert (code, "it takes keeper" in err) == (1, True)
    assert cli.json("send", door, "OPEN", "--actor", "ann", "--role", "keeper") == {"accepted": True}
    assert ended(cli, door)["output"] == {"state": "open"}


def ended(cli: Cli, execution: str) -> Any:
    """An execution's row once it has ended."""
    deadline = time.monotonic() + 30
    while (row := cli.json("show", execution)["execution"])["settled_at"] is None:
        assert time.monotonic() < deadline, row
    return row


def test_an_input_that_does_not_fit_is_one_error_and_nothing_starts(cli: Cli) -> None:
    code, out, err = cli("start", "greeting", "--input", '{"nome": "Ada"}', "--correlation-id", "unfit")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert cli.json("list", "--correlation-id", "unfit") == []


def test_an_awaited_execution_that_fails_exits_with_3_and_shows_what_was_undone(cli: Cli) -> None:
    ended = start(cli, "refuse", "--wait=60", code=3)
    assert (ended["status"], ended["error"]["name"]) == ("compensated", "No")
    code, out, _ = cli("show", ended["id"])
    assert code == 0
    for piece in ("↩ second", "↩ first", "No: the answer is no", "█", "compensated"):
        assert piece in out
    assert cli("list", "--status", "compensated")[1].count(ended["id"]) == 1


def test_waiting_no_longer_than_given_is_an_error_but_the_execution_goes_on(cli: Cli) -> None:
    code, _, err = cli("start", "crawl", "--wait=0.1", "--correlation-id", "slow")
    assert code == 1
    assert "goes on" in err
    (row,) = cli.json("list", "--correlation-id", "slow")
    told = cli("events", row["id"], "--follow", "--json")[1].splitlines()
    assert json.loads(told[-1])["type"] == "execution_succeeded"


def test_definitions_tell_what_is_published_and_publishing_again_changes_nothing(cli: Cli) -> None:
    first, second = cli.json("definitions", "publish"), cli.json("definitions", "publish")
    assert first == second
    states = {row["name"]: row["state"] for row in cli.json("definitions")["definitions"]}
    assert states == dict.fromkeys(("await-event", "await-word", "crawl", "door", "greeting", "refuse"), "published")


def test_a_published_definition_is_compiled_without_its_module(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.json("definitions", "publish")
    monkeypatch.setenv("ORCHESTRATOR_MODULES", "")
    undone = cli.json("compile", "refuse")["compensation"]
    assert [segment["paths"] for segment in undone[0]["segments"]] == [["undo:second"], ["undo:first"]]


def test_an_unknown_id_is_one_error(cli: Cli) -> None:
    for command in ("show", "events"):
        code, _, err = cli(command, "01930000-0000-7000-8000-000000000000")
        assert (code, len(err.splitlines())) == (1, 1)


@pytest.mark.parametrize("command", ["list", "migrate", "verify", "worker", "beat", "start greeting"])
def test_a_database_that_is_down_is_one_error(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, out, err = cli(*command.split())
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "no database at 127.0.0.1:1/none" in err


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_broker_that_is_down_is_one_error(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "redis://127.0.0.1:1/0")
    code, out, err = cli(command)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("error: no broker at redis://")
    assert "127.0.0.1:1/0" in err


def test_a_database_that_was_never_migrated_is_one_error(
    cli: Cli, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", new_database(database_url, "cli_unmigrated"))
    for command in ("list", "verify", "definitions", "worker", "beat", "start crawl"):
        code, out, err = cli(*command.split())
        assert (code, out, len(err.splitlines())) == (1, "", 1), command
        assert "orchestrator migrate" in err
    code, _, err = cli("migrate", "--check")
    assert (code, "this release needs" in err) == (1, True)
    assert cli.json("migrate")["before"] is None
    assert cli.json("migrate", "--check")["before"] == migrate.current(cli.engine)
    assert cli.json("list") == []


def test_a_worker_serves_the_application_that_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("from orchestrator import Orchestrator\napp = Orchestrator().app\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("ORCHESTRATOR_DEFAULT_QUEUE", "cli.mine")
    with Processes(tmp_path) as processes:
        arguments = ["worker", "--app", "mine", "--pool", "solo", "--name", "mine"]
        processes.start("mine", [sys.executable, "-m", "orchestrator.cli", *arguments])
        # Another queue, so another version of the same definition: nobody else consumes it.
        assert greet(cli)["status"] == "succeeded"
        assert processes.terminate("mine", 30) == 0


#: What each claim must notice; all within a transaction that is rolled back.
DAMAGE = {
    "every execution is final or has an open step": (
        "UPDATE orchestrator.execution SET status = 'running', settled_at = NULL, created_at = now() - interval '1 h';"
        "UPDATE orchestrator.step SET settled_at = now() - interval '1 h'"
    ),
    "no final execution has an open step": (
        "UPDATE orchestrator.step SET status = 'waiting', settled_at = NULL WHERE path = 'sign'"
    ),
    "no step is committed twice": (
        "INSERT INTO orchestrator.event (execution_id, tenant, type, path, data) "
        "SELECT execution_id, tenant, type, path, data FROM orchestrator.event WHERE type = 'step_succeeded' LIMIT 1"
    ),
    "every settled step agrees with its last settling event": (
        """UPDATE orchestrator.step SET output = '"other"' WHERE path = 'sign'"""
    ),
    "compensations end in the reverse order of what they undo": (
        "UPDATE orchestrator.event SET path = CASE path WHEN 'undo:first' THEN 'undo:second' ELSE 'undo:first' END "
        "WHERE path LIKE 'undo:%'"
    ),
    "no compensation starts before all attempts have settled": (
        "INSERT INTO orchestrator.event (execution_id, tenant, type, path) "
        "SELECT execution_id, tenant, 'step_started', 'third' FROM orchestrator.step WHERE path = 'undo:first'"
    ),
    "no idempotency key has two executions": (
        "DROP INDEX orchestrator.execution_idempotency_key_unique;"
        "UPDATE orchestrator.execution SET idempotency_key = 'same'"
    ),
    "no step is held by a worker that is gone": (
        "UPDATE orchestrator.step SET status = 'running', settled_at = NULL, owner = boot_id || '.1' "
        "FROM orchestrator.worker WHERE path = 'sign';"
        "UPDATE orchestrator.worker SET buried_at = now() - interval '1 h'"
    ),
    "no step becomes ready twice, so every join fires once": (
        "INSERT INTO orchestrator.event (execution_id, tenant, type, path) "
        "SELECT execution_id, tenant, 'step_ready', 'again' FROM orchestrator.step, generate_series(1, 2) LIMIT 2"
    ),
    "every execution is final": (
        "UPDATE orchestrator.execution SET status = 'running', settled_at = NULL WHERE definition_name = 'greeting'"
    ),
}


def test_a_ledger_in_order_verifies_even_when_the_work_must_be_done(cli: Cli) -> None:
    greet(cli)
    start(cli, "refuse", "--wait=60", code=3)
    checks = cli.json("verify", "--final")
    assert checks["ok"]
    assert {check["name"] for check in checks["checks"]} == {*CLAIMS, *FINAL_CLAIM}
    assert cli("verify")[0] == 0


@pytest.mark.parametrize("name", [*CLAIMS, *FINAL_CLAIM])
def test_every_claim_notices_what_it_is_there_for(cli: Cli, name: str) -> None:
    greet(cli)
    start(cli, "refuse", "--wait=60", code=3)
    with cli.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        assert [check.name for check in verify(connection, final=True) if not check.ok] == []
        for statement in DAMAGE[name].split(";"):
            connection.execute(text(statement))
        found = {check.name: check for check in verify(connection, final=True)}[name]
        connection.rollback()
    assert found.violations >= 1
    assert 1 <= len(found.sample) <= 5


def test_a_violated_claim_exits_with_4_and_names_what_was_found(cli: Cli, database_url: str) -> None:
    execution = greet(cli)["id"]
    damage = text("UPDATE orchestrator.step SET output = :output WHERE execution_id = :id AND path = 'sign'")
    with cli.engine.connect() as connection:
        connection.execute(damage, {"output": '"other"', "id": execution})
        try:
            code, out, _ = cli("verify")
        finally:
            connection.execute(damage, {"output": '{"text": "Hello, Ada! -- the orchestrator"}', "id": execution})
    assert code == 4
    assert f"step sign of execution {execution}" in out
    assert cli("verify")[0] == 0


#: field -> what somebody does to the ledger behind our back, and the words that tell of it.
TAMPERING = {
    "status": (
        "UPDATE orchestrator.step SET status = 'skipped' WHERE execution_id = :id AND path = 'sign'",
        "sign: status is 'skipped', and by its events 'succeeded'",
    ),
    "attempt": (
        "UPDATE orchestrator.step SET attempt = 5 WHERE execution_id = :id AND path = 'sign'",
        "sign: attempt is 5, and by its events 1",
    ),
    "output": (
        "UPDATE orchestrator.execution SET output = '7' WHERE id = :id",
        "the execution: output is 7, and by its events",
    ),
    "row": (
        "DELETE FROM orchestrator.step WHERE execution_id = :id AND path = 'sign'",
        "sign: step is None, and by its events 'succeeded'",
    ),
    "lost event": (
        "DELETE FROM orchestrator.event WHERE execution_id = :id AND path = 'sign' AND type = 'step_succeeded'",
        "sign: status is 'succeeded', and by its events 'running'",
    ),
    "changed event": (
        "UPDATE orchestrator.event SET type = 'step_failed' WHERE execution_id = :id AND type = 'step_succeeded'",
        "sign: status is 'succeeded', and by its events 'failed'",
    ),
    "event too many": (
        "INSERT INTO orchestrator.event (execution_id, tenant, type, path) VALUES (:id, '', 'step_started', 'sign')",
        "sign: step_started may not follow succeeded",
    ),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_what_a_history_says_otherwise_than_its_rows_is_told(cli: Cli, what: str) -> None:
    execution, others = greet(cli)["id"], greet(cli)["id"]
    statement, told = TAMPERING[what]
    code, out, _ = cli("replay", execution)
    assert (code, "no difference" in out) == (0, True)
    with cli.engine.connect() as connection:
        connection.execute(text(statement), {"id": execution})
    code, out, _ = cli("replay", execution)
    assert (code, told in " ".join(out.split())) == (4, True), out
    code, out, _ = cli("replay", "--all", "--json")
    found = {one["execution_id"]: one["differences"] for one in map(json.loads, out.splitlines())}
    assert code == 4
    assert found[execution]
    assert not found[others]
    with cli.engine.connect() as connection:
        for table in ("step", "event"):
            connection.execute(text(f"DELETE FROM orchestrator.{table} WHERE execution_id = :id"), {"id": execution})
        connection.execute(text("DELETE FROM orchestrator.execution WHERE id = :id"), {"id": execution})
    assert cli("replay", "--all")[0] == 0


def test_what_is_replayed_must_be_said_and_be_there(cli: Cli) -> None:
    assert cli("replay")[0] == cli("replay", str(uuid4()), "--all")[0] == 2
    code, _, err = cli("replay", missing := str(uuid4()))
    assert (code, missing in err) == (1, True)


def test_migrating_again_changes_nothing(cli: Cli) -> None:
    told = cli.json("migrate")
    assert told["before"] == told["revision"] == migrate.current(cli.engine)
