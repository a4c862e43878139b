"""Operators' commands on a real worker: each does what it says, and says why where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from app_console import Console, settings
from app_support import Place, eventually, place

from orchestrator import Orchestrator
from orchestrator.embedded import Servers

NOBODY = "01930000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    names = {
        "ORCHESTRATOR_MODULES": "app_commands",
        "ORCHESTRATOR_DEFAULT_QUEUE": "commands",
        "ORCHESTRATOR_SWEEP_QUEUE": "commands.sweeps",
    }
    folder = tmp_path_factory.mktemp("commands")
    with place(servers, folder, "app_commands", number=14, env=names) as found, settings(found.env):
        found.beat("app_commands")
        found.worker("app_commands", queues="commands,commands.sweeps")
        yield found


@pytest.fixture(scope="module")
def orchestrator(home: Place) -> Iterator[Orchestrator]:
    made = Orchestrator()
    yield made
    made.core.database.dispose()


@pytest.fixture
def console(home: Place, capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


def shown(console: Console, execution: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """An execution's row, and its steps by path."""
    found = console.json("show", execution)
    return found["execution"], {step["path"]: step for step in found["steps"]}


def reached(console: Console, execution: str, status: str) -> dict[str, dict[str, Any]]:
    """Wait until the execution has a status; its steps then."""
    eventually(lambda: shown(console, execution)[0]["status"] == status, within=30)
    return shown(console, execution)[1]


def waits(console: Console, execution: str, path: str = "word") -> None:
    """Wait until a step waits."""
    eventually(lambda: shown(console, execution)[1].get(path, {}).get("status") == "waiting", within=30)


def failed(orchestrator: Orchestrator, console: Console) -> str:
    execution = orchestrator.start("commanded-fragile", {"ok": False}).id
    reached(console, execution, "failed")
    return execution


def waiting(orchestrator: Orchestrator, console: Console, name: str = "commanded-waiting") -> str:
    execution = orchestrator.start(name).id
    waits(console, execution)
    return execution


def test_a_retry_with_another_input_keeps_what_was_done(orchestrator: Orchestrator, console: Console) -> None:
    execution = failed(orchestrator, console)
    assert console.done("retry", execution, "--reason", "as it was") == f"{execution} goes on\n"
    eventually(lambda: shown(console, execution)[1]["check"]["attempt"] == 2, within=30)
    reached(console, execution, "failed")
    console.done("retry", execution, "--input", '{"ok": true}')
    steps = reached(console, execution, "succeeded")
    assert shown(console, execution)[0]["output"] == ["first", "checked"]
    assert {path: step["attempt"] for path, step in steps.items()} == {"first": 1, "check": 3, "last": 1}


def test_a_failed_step_is_passed_over_with_an_output(orchestrator: Orchestrator, console: Console) -> None:
    execution = failed(orchestrator, console)
    assert console.done("skip", execution, "check", "--output", '"by hand"') == f"{execution} goes on\n"
    reached(console, execution, "succeeded")
    assert shown(console, execution)[0]["output"] == ["first", "by hand"]
    assert [(row["command"], row["path"]) for row in console.json("audit", execution)] == [("skip", "check")]


def test_a_step_that_waits_is_completed_by_hand(orchestrator: Orchestrator, console: Console) -> None:
    execution = waiting(orchestrator, console)
    assert console.lines("complete", execution, "word", "--output", '"said"') == [
        {"id": execution, "command": "complete", "done": True, "reason": None}
    ]
    reached(console, execution, "succeeded")
    assert shown(console, execution)[0]["output"] == "said"


def test_a_paused_execution_starts_nothing_until_it_is_resumed(orchestrator: Orchestrator, console: Console) -> None:
    execution = waiting(orchestrator, console)
    console.done("pause", execution)
    console.done("complete", execution, "word", "--output", "1")
    row, steps = shown(console, execution)
    assert (row["status"], steps["last"]["status"], steps["last"]["attempt"]) == ("paused", "ready", 0)
    console.done("resume", execution)
    reached(console, execution, "succeeded")


@pytest.mark.parametrize(("option", "ended"), [("--compensate", "compensated"), ("--no-compensate", "cancelled")])
def test_a_cancelled_execution_is_compensated_or_not_as_is_said(
    orchestrator: Orchestrator, console: Console, option: str, ended: str
) -> None:
    execution = waiting(orchestrator, console, "commanded-undoable")
    console.done("cancel", execution, option)
    steps = reached(console, execution, ended)
    assert ("undo:first" in steps) == (ended == "compensated")
    if ended == "cancelled":
        console.done("compensate", execution)
        assert reached(console, execution, "compensated")["undo:first"]["status"] == "succeeded"


@pytest.mark.parametrize("option", ["--children", "--no-children"])
def test_children_are_cancelled_with_their_parent_or_go_on_alone(
    orchestrator: Orchestrator, console: Console, option: str
) -> None:
    parent = orchestrator.start("commanded-family").id
    waits(console, parent, "child")
    child = shown(console, parent)[1]["child"]["wait_name"]
    waits(console, child)
    console.done("cancel", parent, option)
    reached(console, parent, "cancelled")
    if option == "--children":
        reached(console, child, "cancelled")
    else:
        assert shown(console, child)[0]["status"] == "running"
        console.done("complete", child, "word")
        reached(console, child, "succeeded")


def test_a_fork_begins_at_its_step_and_leaves_the_first_as_it_is(orchestrator: Orchestrator, console: Console) -> None:
    execution = failed(orchestrator, console)
    new = console.done("fork", execution, "check", "--input", '{"ok": true}').strip()
    steps = reached(console, new, "succeeded")
    row = shown(console, new)[0]
    assert (row["output"], row["forked_from"]) == (["first", "checked"], execution)
    assert steps["first"]["attempt"] == 0
    assert shown(console, execution)[0]["status"] == "failed"
    (told,) = console.lines("fork", new, "last")
    assert (told["id"], told["command"], told["done"], told["reason"]) == (new, "fork", True, None)
    reached(console, told["forked"], "succeeded")


def test_what_is_started_in_maintenance_begins_after_it(orchestrator: Orchestrator, console: Console) -> None:
    before = waiting(orchestrator, console)
    assert console.json("maintenance", "status") == {"maintenance": False}
    console.done("maintenance", "on", "--actor", "ann", "--reason", "a new disk")
    try:
        assert "already" in console.done("maintenance", "on")
        held = orchestrator.start("commanded-fragile", {"ok": True}).id
        told = console.json("maintenance", "status")
        assert (told["maintenance"], told["actor"], told["reason"], told["held"]) == (True, "ann", "a new disk", 1)
        assert "by ann (a new disk); 1 starts are held" in console.done("maintenance", "status")
        console.done("complete", before, "word")
        reached(console, before, "succeeded")
        assert shown(console, held)[0]["status"] == "created"
    finally:
        console.done("maintenance", "off")
    assert "off" in console.done("maintenance", "status")
    reached(console, held, "succeeded")
    commands = [row["command"] for row in console.json("audit") if row["execution_id"] is None]
    assert commands == ["maintenance off", "maintenance on"]


def test_what_cannot_be_done_is_refused_with_the_reason(orchestrator: Orchestrator, console: Console) -> None:
    done = orchestrator.start("commanded-fragile", {"ok": True}).id
    reached(console, done, "succeeded")
    refused = {
        ("cancel", done): "it has ended succeeded",
        ("pause", done): "it has ended succeeded",
        ("resume", done): "it has ended succeeded",
        ("retry", done): "succeeded",
        ("compensate", done): "nothing that it did has a compensation",
        ("skip", done, "last"): "it has ended succeeded",
        ("complete", done, "last"): "it has ended succeeded",
        ("fork", done, "nowhere"): "nowhere",
    }
    for arguments, reason in refused.items():
        (told,) = console.lines(*arguments, code=1)
        assert (told["id"], told["command"], told["done"]) == (done, arguments[0], False)
        assert reason in told["reason"]
        code, out, err = console(*arguments)
        assert (code, out) == (1, "")
        assert f"refused {done}: {told['reason']}" in err
        (unknown,) = console.lines(arguments[0], NOBODY, *arguments[2:], code=1)
        assert "no execution" in unknown["reason"]
    assert console.json("audit", done) == []


def test_a_step_that_is_not_there_is_refused_and_the_execution_goes_on(
    orchestrator: Orchestrator, console: Console
) -> None:
    execution = waiting(orchestrator, console)
    for command in ("complete", "skip"):
        code, _, err = console(command, execution, "nowhere")
        assert (code, "no step nowhere" in err) == (1, True)
    assert shown(console, execution)[0]["status"] == "running"
