"""Operators' commands without servers: which command lines are refused before anything is looked at."""

from __future__ import annotations

import io
import sys

import pytest

from orchestrator.cli import call
from orchestrator.cli.control import operator

ONE = "01930000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cancel", "which executions?"),
        ("cancel --dry-run", "which executions?"),
        ("cancel --limit 3", "which executions?"),
        (f"cancel {ONE} --all", "not both"),
        (f"retry {ONE} --label team=blue", "not both"),
        (f"retry {ONE} --dry-run", "not both"),
        ("pause --all --definition order --yes", "--all stands in the place of filters"),
        ("resume --older-than 3y --yes", "use days"),
        ("resume --label blue --yes", "write name=value"),
        ("compensate --status done --yes", "'done' is not one of"),
        ("compensate no-id", "not a valid UUID"),
        (f"retry {ONE} --input {{", "is no JSON"),
        ("skip", "Missing argument 'PATH'"),
        (f"skip {ONE}", "which executions?"),
        ("fork step", "which executions?"),
        (f"complete {ONE} step --dry-run", "not both"),
        (f"complete {ONE} step --output {{", "is no JSON"),
        ("audit no-id", "not a valid UUID"),
        ("maintenance maybe", "No such command"),
    ],
)
def test_a_command_that_could_mean_anything_is_refused_with_2(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line.split()) == 2
    answer = capsys.readouterr()
    assert told in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "command", ["cancel", "pause", "resume", "retry", "compensate", "skip a", "complete a", "fork a"]
)
def test_where_nobody_can_be_asked_many_are_commanded_with_yes_only(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert call([*command.split(), "--all"]) == 2
    assert "--dry-run, then give --yes" in capsys.readouterr().err


def test_the_operator_is_a_user_at_a_host() -> None:
    user, at, host = operator().partition("@")
    assert (bool(user), at, bool(host)) == (True, "@", True)
