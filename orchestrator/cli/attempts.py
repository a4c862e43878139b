"""attempts: who has tried a step, when, and how each attempt ended, with its error in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.output import coloured, console, json_option, shown_time, span, table, write_json
from orchestrator.cli.reach import ledger
from orchestrator.cli.timeline import name
from orchestrator.errors import ExecutionNotFound
from orchestrator.ledger import attempts, views
from orchestrator.ledger.attempts import AttemptRecord


@click.command("attempts")
@click.argument("execution_id", metavar="ID", type=click.UUID)
@click.option("--path", "-p", help="Only of the step with this path.")
@json_option
def attempts_command(execution_id: UUID, path: str | None, as_json: bool) -> None:
    """Every attempt at an execution's steps, in order: owner, times, outcome, and the errors with their tracebacks."""
    with ledger() as connection:
        if views.status(connection, str(execution_id)) is None:
            raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        found = attempts.attempts(connection, str(execution_id), path)
    if as_json:
        write_json([asdict(each) for each in found])
        return
    out = console()
    _print_table(out, found)
    for each in found:
        _print_error(out, each)
    if not found:
        click.echo("no attempts", err=True)


def _print_table(out: Console, found: Sequence[AttemptRecord]) -> None:
    rows = table("step", "attempt", "owner", "started", "took", "ended", "next", "error")
    for each in found:
        took = span((each.ended_at - each.started_at).total_seconds()) if each.ended_at else ""
        rows.add_row(
            escape(name(each.path)),
            str(each.attempt),
            escape(_owner(each)),
            shown_time(each.started_at),
            took,
            coloured(each.ended or "running"),
            shown_time(each.next_at),
            escape(f"{each.error.get('category')}: {each.error.get('name')}") if each.error else "",
        )
    out.print(rows)


def _owner(each: AttemptRecord) -> str:
    """The node's name, if it is known, and the process."""
    boot, _, process = (each.owner or "").partition(".")
    return f"{each.node or boot} {process}".strip()


def _print_error(out: Console, each: AttemptRecord) -> None:
    if each.error is None:
        return
    title = f"{escape(name(each.path))} [dim]attempt {each.attempt}[/]  {coloured(each.ended or '')}"
    out.print(f"\n{title}  [red]{escape(str(each.error.get('name')))}: {escape(str(each.error.get('message')))}[/]")
    if trace := each.error.get("traceback"):
        out.print(escape(str(trace)).rstrip(), style="dim", soft_wrap=True)
