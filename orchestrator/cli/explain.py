"""explain: why an execution is where it is, and the command that helps."""

from __future__ import annotations

from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.output import coloured, console, json_option, write_json
from orchestrator.cli.reach import opened
from orchestrator.engine.explain import Explanation


@click.command("explain")
@click.argument("execution_id", metavar="ID", type=click.UUID)
@json_option
def explain_command(execution_id: UUID, as_json: bool) -> None:
    """Why an execution is where it is, and the command that helps."""
    with opened() as found:
        told = found.explain(str(execution_id))
    if as_json:
        write_json(told.as_data())
    else:
        _print(console(), told)


def _print(out: Console, told: Explanation) -> None:
    out.print(f"[bold]{told.definition} v{told.version}[/]  {told.execution_id}  {coloured(told.status)}")
    for found in told.findings:
        margin = "  " * found.depth
        out.print(f"{margin}- {escape(found.sentence)}", soft_wrap=True)
        if found.command is not None:
            out.print(f"{margin}  [cyan]$ {escape(found.command)}[/]", soft_wrap=True)
