"""What a demonstration is about: a module, loaded by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

from orchestrator.cli.reach import importable
from orchestrator.errors import ConfigurationError


class ScenarioCheck(Protocol):
    """A claim about the scenario's own books, and what was found."""

    @property
    def name(self) -> str:
        """The claim."""

    @property
    def ok(self) -> bool:
        """Whether it holds."""

    @property
    def detail(self) -> str:
        """The figures behind the verdict."""


class Scenario(Protocol):
    """The module's contract."""

    #: The definition that the inputs are for.
    WORKFLOW: str

    def prepare(self, database_url: str) -> None:
        """Make the scenario's own tables, in the ledger's database."""

    def inputs(self) -> Sequence[tuple[str, Any]]:
        """Idempotency key and input of each execution."""

    def figures(self, database_url: str) -> dict[str, int]:
        """How it ended, counted in the scenario's own books."""

    def checks(self, database_url: str) -> Sequence[ScenarioCheck]:
        """What must hold in the end."""


def load_scenario(name: str) -> Scenario:
    """The scenario in a module; ConfigurationError when there is none."""
    if not importable(name):
        raise ConfigurationError(f"there is no module {name} here; go to the repository, or give --scenario")
    module = importlib.import_module(name)
    missing = [part for part in ("WORKFLOW", "prepare", "inputs", "figures", "checks") if not hasattr(module, part)]
    if missing:
        raise ConfigurationError(f"{name} is no scenario: it has no {', '.join(missing)}")
    return cast("Scenario", module)
