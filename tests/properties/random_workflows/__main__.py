"""python -m random_workflows --count 500 --seed 7: random workflows on real workers, held against the reference."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator

from nodes.site import Site
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from orchestrator.authoring.loader import dump_yaml
from random_workflows.drawing import drawn, shrunk
from random_workflows.harness import Tried, attempt, broken_claims, site
from random_workflows.strategies import Example

#: Definitions whose executions are under way together.
BATCH = 50
#: Events that are shown of an execution that failed.
SHOWN = 200


def main() -> int:
    """0 when everything held, 1 when not."""
    parser = argparse.ArgumentParser(prog="random_workflows", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="definitions (100)")
    parser.add_argument("--seed", type=int, default=None, help="draw the same again; by default a new one")
    parser.add_argument("--times", type=int, default=2, help="executions of each (2)")
    parser.add_argument("--shrink", type=float, default=90, help="seconds to look for a smaller failure in (90)")
    options = parser.parse_args()
    console = Console(stderr=True)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    console.print(f"seed {seed}: {options.count} definitions, {options.times} executions of each")
    began = time.monotonic()
    with site() as here:
        tried = list(_batches(here, options.count, seed, options.times, console))
        claims = broken_claims(here, final=not any(each.problems for each in tried))
        failed = [each for each in tried if each.problems]
        for claim in claims:
            console.print(f"[red]the ledger breaks a claim:[/] {claim}", highlight=False)
        if failed:
            _report(here, min(failed, key=_size), seed, options, console)
    _summary(tried, time.monotonic() - began, seed)
    return 1 if failed or claims else 0


def _size(tried: Tried) -> int:
    return len(dump_yaml(tried.example.definition))


def _batches(here: Site, count: int, seed: int, times: int, console: Console) -> Iterator[Tried]:
    examples = drawn(count, seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("executions", total=len(examples) * times)
        for begin in range(0, len(examples), BATCH):
            part = examples[begin : begin + BATCH]
            tried = attempt(
                here,
                part,
                seed=str(seed),
                times=times,
                # In every other batch some messages come twice.
                doubling=begin // BATCH % 2 == 1,
                # In every third an operator pauses and resumes what is under way.
                pausing=begin // BATCH % 3 == 2,
                progress=lambda done, begin=begin: bar.update(task, completed=begin * times + done),  # type: ignore[misc]
            )
            for each in tried:
                for problem in each.problems[:5]:
                    console.print(f"[red]{each.example.definition.name}[/] {problem}", highlight=False, markup=True)
            yield from tried


def _report(here: Site, failed: Tried, seed: int, options: argparse.Namespace, console: Console) -> None:
    """A failure as small as can be had, with everything that was seen of it."""
    last = [failed]

    def fails(example: Example) -> bool:
        (tried,) = attempt(here, [example], seed=str(seed), times=options.times)
        if tried.problems:
            last[0] = tried
        return bool(tried.problems)

    console.print(f"looking for a smaller one than {failed.example.definition.name}, {options.shrink:g} s at most")
    shrunk(failed.example, seed, options.count, fails, options.shrink)
    _show(failed if _size(failed) < _size(last[0]) else last[0])


def _show(tried: Tried) -> None:
    out = Console(width=160)
    out.print(dump_yaml(tried.example.definition), highlight=False, markup=False)
    out.print(f"input: {tried.example.input}", highlight=False, markup=False)
    for problem in tried.problems:
        out.print(problem, highlight=False, markup=False)
    turn = next((int(problem.split()[1][:-1]) for problem in tried.problems if problem.startswith("execution ")), 0)
    seen = tried.seen[turn]
    table = Table("path", "status", "exit", "attempt", "output", "error", title=f"execution {turn} is {seen.status}")
    for row in [*seen.rows.values(), *seen.undone.values()]:
        error = (row.error or {}).get("message")
        table.add_row(row.path, row.status, row.exit, str(row.attempt), str(row.output), error)
    out.print(table)
    for event in seen.events[:SHOWN]:
        out.print(f"{event.id} {event.type} {event.path or ''} {event.attempt or ''}", highlight=False, markup=False)


def _summary(tried: list[Tried], seconds: float, seed: int) -> None:
    ends = Counter(seen.status for each in tried for seen in each.seen)
    steps = sum(len(seen.rows) + len(seen.undone) for each in tried for seen in each.seen)
    failed = sum(bool(each.problems) for each in tried)
    exact = sum(each.exact for each in tried)
    print(  # noqa: T201 - the program's result
        f"{len(tried)} definitions, {sum(ends.values())} executions "
        f"({', '.join(f'{count} {status}' for status, count in ends.most_common())}), "
        f"{steps} steps in {seconds:.0f} s; {exact} predicted exactly, "
        f"{sum(not each.predicted for each in tried)} not at all; {failed} failed; seed {seed}"
    )


if __name__ == "__main__":
    sys.exit(main())
