"""`demo` and `dev` as programs of their own: what they end with, and that they leave no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

REPOSITORY = Path(__file__).parents[2]
MARK = "ORCHESTRATION_TEST_MARK"

#: Two hundred executions of two steps that are slow enough to be caught at work.
SCENARIO = """
import time
from collections import namedtuple
from orchestrator import activity, step, workflow
Check = namedtuple("Check", "name ok detail")
WORKFLOW = "small"
@activity
def small_work() -> None: time.sleep(0.01)
small = workflow(WORKFLOW, step("first", small_work), step("second", small_work))
def prepare(database_url): ...
def inputs(): return [(f"key-{n}", {"n": n}) for n in range(200)]
def figures(database_url): return {"figure": 7}
def checks(database_url): return [Check("the scenario's own claim", HOLDS, "detail")]
HOLDS = True
"""


class Program:
    """A command of ours, started in a folder; every process that descends from it can be found."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self._known: dict[int, str] = {}
        self.log = folder / f"{self.mark}.err"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        path = os.pathsep.join((str(folder), str(REPOSITORY)))
        with self.log.open("wb") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli", *arguments],
                cwd=folder,
                env={**kept, "PYTHONPATH": path, MARK: self.mark},
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def told(self) -> str:
        """What it has written on standard error."""
        return self.log.read_text(errors="replace")

    def await_told(self, text: str, seconds: float = 120) -> None:
        """Wait until it has said something."""
        until(lambda: text in self.told or self._popen.poll() is not None, seconds)
        self._remember(self._popen.pid)
        assert text in self.told, self.told

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the whole group in the foreground."""
        self._remember(self._popen.pid)
        os.killpg(self._popen.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, to itself alone."""
        self._popen.kill()

    def end(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code and standard output; by then, or a moment later, nothing of it is alive."""
        out, _ = self._popen.communicate(timeout=seconds)
        until(lambda: not self.processes(), 5)
        return self._popen.returncode, out.decode()

    def close(self) -> None:
        """Whatever a failed test has left."""
        self._popen.kill()
        self._popen.communicate()

    def processes(self) -> dict[int, str]:
        """Every living process that was started by it, directly or not: process id -> command.

        Told by an inherited variable, and by descent for servers that write their title over their environment.
        """
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_ours(entry):
                with suppress(FileNotFoundError, ProcessLookupError):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
        return found

    def _is_ours(self, entry: Path) -> bool:
        try:
            # A process that is dead and not yet waited for has an empty environment.
            marked = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
            return marked or self._known.get(int(entry.name)) == birth(entry)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False

    def _remember(self, pid: int) -> None:
        """Take note of what has descended from a process; a process id alone may come to mean another."""
        with suppress(FileNotFoundError, ProcessLookupError):
            for tasks in Path(f"/proc/{pid}/task").iterdir():
                for child in (tasks / "children").read_text().split():
                    self._known[int(child)] = birth(Path(f"/proc/{child}"))
                    self._remember(int(child))


def birth(entry: Path) -> str:
    """When a living process began, in ticks; none for one that is dead and not yet waited for."""
    state, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


Launch: TypeAlias = Callable[..., Program]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts programs, and ends them with the test."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        started.append(Program(tmp_path, *arguments))
        return started[-1]

    yield start
    for program in started:
        program.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a small scenario."""
    (tmp_path / "small.py").write_text(SCENARIO)
    return tmp_path


def test_the_northwind_orders_are_fulfilled_through_a_killed_worker(launch: Launch, tmp_path: Path) -> None:
    program = launch("demo", "--json")
    code, out = program.end(seconds=115)
    assert code == 0, program.told
    report: dict[str, Any] = json.loads(out)
    figures, killed = report["figures"], report["killed"]
    assert figures["fulfilled"] + figures["rejected_for_stock"] + figures["undone_after_capture"] == 830
    assert min(figures["fulfilled"], figures["rejected_for_stock"], figures["undone_after_capture"]) > 0
    assert sum(report["statuses"].values()) == report["inputs"] == 830
    assert len(killed["released"]) >= 1
    assert 415 <= killed["after_executions"] < 830
    assert all(verdict["ok"] for verdict in report["invariants"])
    assert not (tmp_path / ".orchestrator").exists(), "nothing is kept of what went well"
    assert {verdict["source"] for verdict in report["invariants"]} == {"scenario", "ledger", "demo"}


def test_another_scenario_names_each_released_claim_and_ends_with_4_if_its_own_does_not_hold(
    launch: Launch, small: Path
) -> None:
    (small / "small.py").write_text(SCENARIO.replace("HOLDS = True", "HOLDS = False"))
    program = launch("demo", "--scenario", "small", "--seed", "7")
    code, out = program.end(seconds=115)
    assert code == 4, program.told
    released = re.findall(r"(?:first|second) of execution [0-9a-f-]{36}, attempt 1", out)
    assert len(released) >= 1
    assert "200 executions of small: 200 succeeded" in out
    assert [line.split("  ")[0] for line in out.splitlines() if "✗" in line] == ["✗ the scenario's own claim"]
    assert list(small.glob(".orchestrator/*/logs/worker-1.log"))  # kept, for whoever asks why


def test_a_scenario_that_is_not_there_is_one_error(launch: Launch, tmp_path: Path) -> None:
    program = launch("demo", "--scenario", "no.such.scenario")
    assert program.end()[0] == 1
    assert program.told.startswith("error: there is no module no.such.scenario")


@pytest.mark.parametrize(
    ("moment", "delay"),
    [
        ("starting PostgreSQL and a broker", 0.0),
        ("starting PostgreSQL and a broker", 0.4),
        ("starting two worker pools", 0.4),
        ("takes its place", 0.0),
    ],
)
def test_an_interrupted_demonstration_leaves_no_process(launch: Launch, small: Path, moment: str, delay: float) -> None:
    program = launch("demo", "--scenario", "small")
    program.await_told(moment)
    time.sleep(delay)  # not a wait for anything: another moment
    program.interrupt()
    code, out = program.end(seconds=30)
    assert (code, out) == (130, ""), program.told
    assert program.told.endswith("interrupted\n")
    assert program.processes() == {}


def test_a_demonstration_that_is_killed_leaves_no_process(launch: Launch, small: Path) -> None:
    program = launch("demo", "--scenario", "small")
    program.await_told("are enqueued")
    assert {"postgres", "valkey-server"} <= set(program.processes().values())
    program.kill()
    assert program.end()[0] == -signal.SIGKILL
    assert program.processes() == {}


def test_dev_serves_until_it_is_interrupted_and_tells_of_a_child_that_dies(launch: Launch, tmp_path: Path) -> None:
    program = launch("dev")
    program.await_told("orchestrator start greeting")
    exported = (tmp_path / ".orchestrator/dev/env").read_text()
    assert exported in program.told
    command = next(line for line in program.told.splitlines() if line.strip().startswith("orchestrator start"))
    tried = subprocess.run(
        ["sh", "-c", f". .orchestrator/dev/env; {sys.executable} -m orchestrator.cli {command.split(None, 1)[1]}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    assert "Hello, Ada!" in tried.stdout
    second = launch("dev")
    assert second.end()[0] == 1
    assert "is served by another process" in second.told
    beat = next(pid for pid in program.processes() if b"beat" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    os.kill(beat, signal.SIGKILL)
    program.await_told("beat has ended")
    program.interrupt()
    assert program.end()[0] == 0
    assert program.processes() == {}
