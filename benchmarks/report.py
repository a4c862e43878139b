"""Figures, their bounds, and how they are shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

_PACKAGES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure, and what is asked of it."""

    #: The part of the benchmark that it belongs to: A to F.
    part: str
    #: What was measured.
    name: str
    value: float
    unit: str
    #: The least, or else the most, that the value may be.
    bound: float
    at_least: bool = False
    #: What the value was worked out from.
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the value keeps to its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    #: Measurements of a throughput, of which the median counts.
    repeats: int = 5
    #: Executions of ten steps in one measurement.
    executions: int = 300
    #: Starts of each workflow.
    starts: int = 400
    #: Pool children killed, and whole workers.
    children: int = 20
    workers: int = 3


QUICK = Scale(repeats=1, executions=100, starts=60, children=3, workers=1)


def as_json(figures: Sequence[Figure]) -> str:
    """The figures with the machine and the versions that they hold for."""
    packages = {name: version(name) for name in _PACKAGES}
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    found = [asdict(figure) | {"met": figure.met} for figure in figures]
    return json.dumps({"machine": machine, "packages": packages, "figures": found}, indent=2)


def show(figures: Sequence[Figure], console: Console) -> None:
    """A table of figure, bound, and whether it is met."""
    table = Table("", "figure", "measured", "asked", "met")
    for figure in figures:
        bound = f"{'at least' if figure.at_least else 'at most'} {figure.bound:,g} {figure.unit}"
        met = "[green]yes[/]" if figure.met else "[bold red]no[/]"
        table.add_row(figure.part, figure.name, f"{_short(figure.value)} {figure.unit}", bound, met)
    console.print(table)
    for figure in figures:
        shown = {key: value for key, value in figure.details.items() if not isinstance(value, list | dict)}
        if shown:
            facts = ", ".join(f"{key} {_short(value)}" for key, value in shown.items())
            console.print(f"{figure.part}  {facts}", highlight=False, soft_wrap=True)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
