"""`make examples`: every example of the repository at work, once, with all that it promises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from places import eventually

REPOSITORY = Path(__file__).parents[2]
MARK = "ORCHESTRATION_EXAMPLES_MARK"
EXAMPLES = {path.parent.name.replace("_", "-") for path in (REPOSITORY / "definitions").glob("*/example.py")}


def examples(*arguments: str, folder: Path = REPOSITORY) -> tuple[int, Any, str]:
    """Exit code, standard output as data, and standard error of the command; by then no process of it is left."""
    mark = uuid.uuid4().hex
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "examples", "--json", *arguments],
        cwd=folder,
        env={**kept, MARK: mark},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    eventually(lambda: not marked(mark), lambda: f"{marked(mark)} are left")
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def marked(mark: str) -> list[str]:
    """Living processes with the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def failures(report: Mapping[str, Any]) -> list[str]:
    return [f"{found['example']}: {found['check']}: {found['error']}" for found in report["checks"] if not found["ok"]]


def test_every_example_does_what_it_promises() -> None:
    code, report, told = examples()
    assert report is not None, told
    assert not failures(report)
    assert code == 0
    assert {found["example"] for found in report["checks"]} == EXAMPLES | {"ledger"}
    assert all(found["compared"] > 0 for found in report["checks"])
    assert report["seconds"] < 90


def test_an_example_that_breaks_its_promise_ends_with_1_and_is_told(tmp_path: Path) -> None:
    package = tmp_path / "definitions" / "broken"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(
        "from orchestrator import activity, step, workflow\n"
        "@activity\ndef one() -> int: return 1\n"
        'broken = workflow("broken", step("one", one))\n'
    )
    (package / "example.py").write_text(
        'def check_one(play):\n    "one is one"\n    play.same(made(play), 1, "the output")\n'
        'def check_two(play):\n    "one is two"\n    play.same(made(play), 2, "the output")\n'
        'def made(play):\n    return play.output(play.start("broken", {}))\n'
    )
    for name in ("play.py", "books.py"):
        shutil.copy(REPOSITORY / "definitions" / name, package.parent)
    code, report, told = examples(folder=tmp_path)
    assert code == 1, told
    assert failures(report) == ["broken: one is two: the output: 1, where 2 was expected"]
    assert [found["check"] for found in report["checks"] if found["ok"]] == [
        "one is one",
        "every invariant of the ledger holds",
    ]


@pytest.mark.parametrize(
    ("name", "fix"), [("complete-crat", 'did you mean "complete-cart"?'), ("xyz", "there are ai-processing")]
)
def test_a_name_that_is_none_is_told_with_those_that_are(name: str, fix: str) -> None:
    code, _, told = examples(name)
    assert code == 1
    assert fix in told
