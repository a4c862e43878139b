"""Commands to many executions at once: which are meant, what a dry run changes, who is asked. No worker is up."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from app_console import Console, settings
from app_support import Place, place

from orchestrator import Orchestrator
from orchestrator.cli.control import operator
from orchestrator.embedded import Servers

MODULES = "app_workflows,app_commands"
#: More executions than a dry run shows to people.
MANY = 60
NOBODY = "01930000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    names = {"ORCHESTRATOR_MODULES": MODULES, "ORCHESTRATOR_DEFAULT_QUEUE": "bulk"}
    with (
        place(servers, tmp_path_factory.mktemp("bulk"), "app_bulk", number=14, env=names) as found,
        settings(found.env),
    ):
        yield found


@pytest.fixture(scope="module")
def orchestrator(home: Place) -> Iterator[Orchestrator]:
    made = Orchestrator()
    yield made
    made.core.database.dispose()


@pytest.fixture
def console(home: Place, capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


@pytest.fixture
def label() -> str:
    """A label's value of the test's own."""
    return uuid4().hex


def begin(orchestrator: Orchestrator, label: str, count: int, name: str = "app-echo", **options: Any) -> list[str]:
    """Ids of executions with the label, newest first."""
    labels = {"test": label, **options.pop("labels", {})}
    started = orchestrator.start_many(name, [(None, 1)] * count, labels=labels, **options)
    return sorted((handle.id for handle in started), reverse=True)


def statuses(home: Place, label: str) -> Counter[str]:
    """How many of the label's executions are in each status."""
    with home.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT status FROM orchestrator.execution WHERE labels ->> 'test' = %(label)s", {"label": label}
        )
        return Counter(row[0] for row in rows)


def everything(home: Place) -> str:
    """All that commands might change, as text."""
    tables = ("execution", "step", "event", "audit", "maintenance")
    return "\n".join(
        str(home.value(f"SELECT json_agg(t ORDER BY t::text) FROM orchestrator.{table} t")) for table in tables
    )


# --- which are meant ------------------------------------------------------------------------------------------------


def test_each_filter_leaves_out_what_is_otherwise(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    (plain,) = begin(orchestrator, label, 1)
    (blue,) = begin(orchestrator, label, 1, labels={"team": "blue"})
    (other,) = begin(orchestrator, label, 1, name="commanded-waiting", correlation_id=label)
    home.run("UPDATE orchestrator.execution SET created_at = now() - interval '3 h' WHERE id = :id", id=plain)
    home.run("UPDATE orchestrator.execution SET status = 'paused', paused_at = now() WHERE id = :id", id=blue)

    def meant(command: str, *filters: str) -> list[str]:
        return [row["id"] for row in console.lines(command, "--label", f"test={label}", *filters, "--dry-run")]

    assert meant("cancel") == [other, blue, plain]
    assert meant("cancel", "--definition", "app-echo") == [blue, plain]
    assert meant("cancel", "--label", "team=blue") == [blue]
    assert meant("cancel", "--correlation-id", label) == [other]
    assert meant("cancel", "--older-than", "2h30m") == [plain]
    assert meant("cancel", "--newer-than", "2h30m") == [other, blue]
    assert meant("cancel", "--status", "running", "--status", "cancelled") == [other, plain]
    assert meant("cancel", "--limit", "2") == [other, blue]
    assert meant("pause") == [other, plain]
    assert meant("resume") == [blue]
    assert meant("retry") == []
    assert [row["id"] for row in console.json("list", "--label", f"test={label}", "--older-than", "2h30m")] == [plain]
    both = ("--status", "running", "--status", "paused")
    assert {row["id"] for row in console.json("list", "--label", f"test={label}", *both)} == {plain, blue, other}


def test_children_are_left_to_their_parents(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    child, parent = begin(orchestrator, label, 2)
    home.run(
        "UPDATE orchestrator.execution SET parent_id = CAST(:parent AS uuid), parent_path = 'echo' WHERE id = :child",
        parent=parent,
        child=child,
    )
    assert [row["id"] for row in console.lines("cancel", "--label", f"test={label}", "--dry-run")] == [parent]
    assert [row["id"] for row in console.json("list", "--label", f"test={label}")] == [child, parent]


# --- a dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_and_counts_what_is_meant_and_changes_nothing(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    ids = begin(orchestrator, label, MANY)
    before = everything(home)
    for command in ("cancel", "pause", "resume", "retry", "compensate", "skip echo", "complete echo", "fork echo"):
        console.done(*command.split(), "--label", f"test={label}", "--status", "running", "--dry-run")
    told = console.done("cancel", "--label", f"test={label}", "--dry-run", "--yes")
    assert everything(home) == before
    assert f"dry run: would cancel {MANY} executions ({MANY} running)" in told
    assert "and 10 more" in told
    assert [found in told for found in ids] == [True] * 50 + [False] * 10
    rows = console.lines("cancel", "--label", f"test={label}", "--dry-run")
    assert [row["id"] for row in rows] == ids
    assert {(row["command"], row["done"], row["reason"], row["status"]) for row in rows} == {
        ("cancel", False, "dry run", "running")
    }


# --- done -----------------------------------------------------------------------------------------------------------


def test_those_that_are_meant_are_commanded_and_no_others(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    begin(orchestrator, label, 3, labels={"team": "blue"})
    begin(orchestrator, label, 2, labels={"team": "green"})
    blue = ("--label", f"test={label}", "--label", "team=blue", "--yes")
    assert console.done("pause", *blue) == "pause: 3 done, 0 refused\n"
    assert statuses(home, label) == {"paused": 3, "running": 2}
    assert console.done("resume", *blue) == "resume: 3 done, 0 refused\n"
    assert console.done("cancel", *blue) == "cancel: 3 done, 0 refused\n"
    assert statuses(home, label) == {"cancelled": 3, "running": 2}
    assert console.done("retry", *blue) == "retry: 3 done, 0 refused\n"
    assert statuses(home, label) == {"running": 5}
    code, out, err = console("retry", *blue)
    assert (code, out, "nothing to retry" in err) == (0, "", True)


def test_steps_of_those_that_have_come_to_them_are_completed_or_passed_over(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    echoing, waiting = begin(orchestrator, label, 3), begin(orchestrator, label, 2, name="commanded-waiting")
    mine = ("--label", f"test={label}")
    assert [row["id"] for row in console.lines("complete", "echo", *mine, "--dry-run")] == echoing
    assert [row["id"] for row in console.lines("skip", "word", *mine, "--dry-run")] == waiting
    assert console.lines("skip", "last", *mine, "--dry-run") == []
    assert console.done("complete", "echo", *mine, "--limit", "2", "--output", "7", "--yes") == (
        "complete: 2 done, 0 refused\n"
    )
    assert console.done("skip", "word", *mine, "--yes", "--reason", "nobody answers") == "skip: 2 done, 0 refused\n"
    assert statuses(home, label) == {"succeeded": 2, "running": 3}
    assert orchestrator.execution(echoing[0]).result(1) == 7
    assert [entry.reason for entry in orchestrator.audit(waiting[0])] == ["nobody answers"]
    assert console.done("complete", *waiting, "last", "--output", "1").splitlines() == [
        f"{execution} goes on" for execution in waiting
    ]
    code, out, err = console("complete", "echo", *mine, "--status", "succeeded", "--yes")
    assert (code, out, "nothing to complete" in err) == (0, "", True)


def test_those_that_have_ended_are_forked_from_a_step(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    ended, going = begin(orchestrator, label, 2), begin(orchestrator, label, 1)
    for execution in ended:
        console.done("complete", execution, "echo", "--output", "1")
    mine = ("--label", f"test={label}")
    assert {row["id"] for row in console.lines("fork", "echo", *mine, "--dry-run")} == set(ended)
    told = console.lines("fork", "echo", *mine, "--input", "2", "--yes")
    assert [(row["id"], row["done"]) for row in told] == [(execution, True) for execution in ended]
    forks = [orchestrator.execution(row["forked"]) for row in told]
    assert [fork.status() for fork in forks] == ["running", "running"]
    assert orchestrator.execution(going[0]).status() == "running"
    assert console.done("fork", *ended, "echo").count("\n") == 2


def test_what_is_refused_is_told_and_the_rest_is_done(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    first, *others = begin(orchestrator, label, 3)
    console.done("cancel", first)
    filters = ("cancel", "--label", f"test={label}", "--status", "cancelled", "--status", "running", "--yes")
    code, out, err = console(*filters)
    assert (code, out) == (1, "cancel: 2 done, 1 refused\n")
    assert f"refused {first}: it has ended cancelled" in err
    assert statuses(home, label) == {"cancelled": 3}
    told = console.lines(*filters, code=1)
    assert [(row["id"], row["command"], row["done"]) for row in told] == [
        (found, "cancel", False) for found in (first, *others)
    ]
    assert all("has ended cancelled" in row["reason"] for row in told)


def test_ids_are_commanded_one_by_one_and_an_unknown_one_stops_nothing(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    ids = begin(orchestrator, label, 2)
    told = console.lines("cancel", ids[0], NOBODY, ids[1], ids[0], code=1)
    assert [(row["id"], row["done"]) for row in told] == [(ids[0], True), (NOBODY, False), (ids[1], True)]
    assert "no execution" in told[1]["reason"]
    assert statuses(home, label) == {"cancelled": 2}
    code, out, err = console("retry", ids[0], NOBODY)
    assert (code, out) == (1, f"{ids[0]} goes on\n")
    assert f"refused {NOBODY}" in err


def test_one_that_somebody_holds_is_refused_in_time_and_the_rest_is_done(
    home: Place, orchestrator: Orchestrator, console: Console, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = begin(orchestrator, label, 3)[1]
    monkeypatch.setenv("ORCHESTRATOR_LOCK_TIMEOUT", "0.3")
    with home.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection, connection.begin():
        connection.exec_driver_sql("SELECT FROM orchestrator.execution WHERE id = %(id)s FOR UPDATE", {"id": held})
        code, out, err = console("cancel", "--label", f"test={label}", "--yes")
    assert (code, out) == (1, "cancel: 2 done, 1 refused\n")
    assert f"refused {held}: somebody else holds it" in err
    assert statuses(home, label) == {"cancelled": 2, "running": 1}


def test_a_command_that_has_taken_effect_has_though_a_step_is_held(
    home: Place, orchestrator: Orchestrator, console: Console, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held,) = begin(orchestrator, label, 1)
    monkeypatch.setenv("ORCHESTRATOR_LOCK_TIMEOUT", "0.3")
    with home.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection, connection.begin():
        rows = connection.exec_driver_sql(
            "SELECT FROM orchestrator.step WHERE execution_id = %(id)s FOR UPDATE", {"id": held}
        )
        assert rows.rowcount
        code, out, _ = console("cancel", held)
        assert (code, out) == (0, f"{held} is being cancelled\n")
        assert statuses(home, label) == {"cancelling": 1}
    # Whoever looks next goes on: a sweep, or the same command.
    assert console("cancel", held)[0] == 0
    assert statuses(home, label) == {"cancelled": 1}


def test_an_error_that_concerns_them_all_ends_the_command_and_says_how_far_it_came(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    begin(orchestrator, label, 2)
    home.run("ALTER TABLE orchestrator.audit RENAME TO moved")
    try:
        code, out, err = console("cancel", "--label", f"test={label}", "--yes")
    finally:
        home.run("ALTER TABLE orchestrator.moved RENAME TO audit")
    assert (code, out) == (1, "cancel: 0 done, 0 refused, 2 not tried\n")
    assert "orchestrator migrate" in err
    assert statuses(home, label) == {"running": 2}


def test_all_means_all_to_which_the_command_applies(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    console("cancel", "--all", "--yes")
    waiting = begin(orchestrator, label, 2)
    assert console.done("pause", "--all", "--yes") == "pause: 2 done, 0 refused\n"
    assert [row["id"] for row in console.lines("resume", "--all", "--dry-run")] == waiting
    assert console.done("resume", "--all", "--yes") == "resume: 2 done, 0 refused\n"


# --- on a terminal --------------------------------------------------------------------------------------------------


def on_terminal(home: Place, answer: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and what the terminal shows to somebody who answers the question."""
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "orchestrator.cli", *arguments]
    env = os.environ | home.env | {"TERM": "xterm", "COLUMNS": "120"}
    shown = b""
    with subprocess.Popen(command, stdin=inside, stdout=subprocess.PIPE, stderr=inside, env=env) as process:
        os.close(inside)
        answered = False
        while True:
            try:
                read = os.read(terminal, 4096)
            except OSError:  # its other end is closed
                break
            shown += read
            if not answered and b"[y/N]" in shown:
                os.write(terminal, f"{answer}\n".encode())
                answered = True
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(terminal)
    return process.returncode, out, shown.decode()


def test_on_a_terminal_the_operator_is_asked_and_sees_how_far_it_is(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    begin(orchestrator, label, 3)
    code, out, shown = on_terminal(home, "n", "cancel", "--label", f"test={label}")
    assert (code, out) == (1, "")
    assert "cancel 3 executions (3 running)? [y/N]" in shown
    assert "nothing was done" in shown
    assert statuses(home, label) == {"running": 3}
    code, out, shown = on_terminal(home, "y", "cancel", "--label", f"test={label}")
    assert (code, out) == (0, "cancel: 3 done, 0 refused\n")
    assert "3/3" in shown
    assert statuses(home, label) == {"cancelled": 3}


# --- the audit ------------------------------------------------------------------------------------------------------


def test_the_audit_tells_who_did_what_to_which_execution_and_why(
    home: Place, orchestrator: Orchestrator, console: Console, label: str
) -> None:
    one, other = begin(orchestrator, label, 2)
    ann = f"ann-{label}"
    console.done("pause", one, other, "--actor", ann, "--reason", "a closer look")
    console.done("resume", one)
    console("resume", one)  # refused, so no entry
    told = console.json("audit", one)
    assert [(row["command"], row["actor"], row["reason"]) for row in told] == [
        ("resume", operator(), None),
        ("pause", ann, "a closer look"),
    ]
    assert {row["execution_id"] for row in told} == {one}
    assert [row["execution_id"] for row in console.json("audit", "--actor", ann)] == [other, one]
    assert [row["execution_id"] for row in console.json("audit", "--actor", ann, "--limit", "1")] == [other]
    shown = console.done("audit", "--actor", ann)
    assert all(piece in shown for piece in (one, other, ann, "pause", "a closer look"))
    entries = orchestrator.audit(one)
    assert [(entry.command, entry.actor) for entry in entries] == [("resume", operator()), ("pause", ann)]
    assert orchestrator.audit(actor=ann, limit=1) == orchestrator.audit(other)
    assert orchestrator.audit(tenant="elsewhere") == []
    assert console.json("audit", NOBODY) == []
