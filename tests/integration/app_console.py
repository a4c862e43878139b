"""The command line as tests use it: in this process, with a place's settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.cli import call


@contextmanager
def settings(env: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the command line, taken back in the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            if name.startswith("ORCHESTRATOR_"):
                patch.setenv(name, value)
        yield


@dataclass(frozen=True)
class Console:
    """The command line."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self.capture.readouterr()
        code = call(arguments)
        told = self.capture.readouterr()
        return code, told.out, told.err

    def done(self, *arguments: str) -> str:
        """What a command prints that succeeds."""
        code, out, err = self(*arguments)
        assert code == 0, err
        return out

    def json(self, *arguments: str) -> Any:
        """What it prints with --json."""
        return json.loads(self.done(*arguments, "--json"))

    def lines(self, *arguments: str, code: int = 0) -> list[Any]:
        """The objects that a command prints with --json, one a line."""
        found, out, err = self(*arguments, "--json")
        assert found == code, err
        return [json.loads(line) for line in out.splitlines()]
