"""replay: whether executions' histories fold to their rows."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.exits import EXIT_CODES, VIOLATED
from orchestrator.cli.output import console, json_option, notes, progress_bar, write_json
from orchestrator.cli.reach import engine, opened
from orchestrator.engine.replay import Replayed, replayed_all
from orchestrator.ledger import histories

#: Executions with differences that are printed in full; the others are counted.
SHOWN = 20


@click.command("replay", epilog=EXIT_CODES)
@click.argument("execution_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--all", "everything", is_flag=True, help="Every execution of every tenant.")
@json_option
def replay_command(execution_id: UUID | None, everything: bool, as_json: bool) -> None:
    """Fold an execution's history, and tell what its rows say otherwise; changes nothing.

    Safe beside working workers: each execution is looked at as it stands at one moment. With --json one object a line
    for each execution.
    """
    if (execution_id is None) != everything:
        raise click.UsageError("give the id of an execution, or --all")
    out, executions, events, wrong = console(), 0, 0, 0
    for found in _all() if execution_id is None else _one(str(execution_id)):
        executions, events, wrong = executions + 1, events + found.events, wrong + bool(found.differences)
        if as_json:
            write_json(found.as_data(), line=True)
        elif found.differences and wrong <= SHOWN:
            _print(out, found)
        elif execution_id is not None:
            out.print(f"{found.events} events fold to {found.rows} rows: no difference")
    if everything and not as_json:
        verdict = f"[red]{wrong} differ from their rows[/]" if wrong else "no difference"
        out.print(f"{events} events of {executions} executions: {verdict}")
    if wrong:
        raise SystemExit(VIOLATED)


def _one(execution_id: str) -> Iterator[Replayed]:
    with opened() as found:
        yield found.replay(execution_id)


def _all() -> Iterator[Replayed]:
    with engine() as reached, progress_bar(notes()) as progress:
        bar = progress.add_task("replayed", total=histories.count(reached, None))
        for found in replayed_all(reached):
            yield found
            progress.advance(bar)


def _print(out: Console, found: Replayed) -> None:
    out.print(f"[bold]{found.execution_id}[/]: {found.events} events, {len(found.differences)} differences")
    for difference in found.differences:
        out.print(f"  [red]✗[/] {escape(str(difference))}", soft_wrap=True, highlight=False)
