"""The figures that are promised, measured in one run: `make bench-core`, or `python -m benchmarks.core`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import chains, kills, messages, starts
from benchmarks.report import QUICK, Figure, Scale, as_json, show
from benchmarks.stack import Stack, stack

Measure = Callable[[Stack, Scale, Callable[[], object]], list[Figure]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the benchmark."""

    title: str
    measure: Measure
    #: How often it ticks.
    ticks: Callable[[Scale], int]


#: D is the last: its executions stay behind, as no worker is up.
PARTS = {
    "A": Part(title="many short chains", measure=chains.many_short, ticks=chains.measurements),
    "B": Part(title="one long chain", measure=chains.one_long, ticks=chains.measurements),
    "C": Part(title="message sizes", measure=messages.largest, ticks=lambda _: len(messages.SHAPES)),
    "E": Part(title="killed pool children", measure=kills.children, ticks=lambda scale: scale.children),
    "F": Part(title="killed workers", measure=kills.workers, ticks=lambda scale: scale.workers),
    "D": Part(title="starts", measure=starts.costs, ticks=lambda scale: scale.starts * len(starts.PAIRS)),
}


@click.command(help=__doc__)
@click.option("--json", "target", type=click.File("w"), help="Write the figures to a file, or to standard output: -")
@click.option("--quick", is_flag=True, help="Measure less, in about a minute; the figures are rough.")
@click.option("--only", multiple=True, type=click.Choice(sorted(PARTS)), help="Just this part; may be repeated.")
def main(target: IO[str] | None, quick: bool, only: Sequence[str]) -> None:
    """Measure, show, and end with 1 if a figure is not what was promised."""
    errors = Console(stderr=True)
    figures = measure(QUICK if quick else Scale(), [name for name in PARTS if not only or name in only], errors)
    figures.sort(key=lambda figure: figure.part)
    show(figures, errors if target is not None and target.name == "<stdout>" else Console())
    if target is not None:
        target.write(as_json(figures) + "\n")
    sys.exit(not all(figure.met for figure in figures))


def measure(scale: Scale, names: Sequence[str], console: Console) -> list[Figure]:
    """Measure the named parts one after another on the same servers."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    figures: list[Figure] = []
    with Progress(*columns, console=console) as progress, stack() as running:
        for name in names:
            part = PARTS[name]
            bar = progress.add_task(f"{name} {part.title}", total=part.ticks(scale))
            figures += part.measure(running, scale, lambda bar=bar: progress.advance(bar))  # type: ignore[misc]
    return figures


if __name__ == "__main__":
    main()
