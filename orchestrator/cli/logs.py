"""logs: what an execution's attempts have said."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.output import console, json_option, write_json
from orchestrator.cli.reach import ledger
from orchestrator.cli.timeline import name
from orchestrator.config import LOG_LEVELS
from orchestrator.errors import ExecutionNotFound
from orchestrator.ledger import attempt_logs, views

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "DEBUG": "dim"}


@click.command("logs")
@click.argument("execution_id", metavar="ID", type=click.UUID)
@click.option("--path", "-p", help="Only of this step or compensation.")
@click.option(
    "--level",
    "-l",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    default="INFO",
    show_default=True,
    help="The least level shown.",
)
@json_option
def logs_command(execution_id: UUID, path: str | None, level: str, as_json: bool) -> None:
    """What an execution's attempts have logged, oldest first; with --json one object a line."""
    out = console()
    with ledger() as connection:
        if views.status(connection, str(execution_id)) is None:
            raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        least = logging.getLevelNamesMapping()[level.upper()]
        for row in attempt_logs.read(connection, str(execution_id), path=path, level=least):
            row["level"] = logging.getLevelName(row["level"])
            if as_json:
                write_json(row, line=True)
            else:
                _print(out, row)


def _print(out: Console, row: Mapping[str, Any]) -> None:
    fields = f"  [dim]{escape(json.dumps(row['fields'], ensure_ascii=False))}[/]" if row["fields"] else ""
    colour = _COLOURS.get(row["level"], "cyan")
    where = f"{escape(name(row['path']))} [dim]attempt {row['attempt']}[/]"
    at = row["at"].astimezone()
    told = f"[{colour}]{row['level']:<8}[/] {where}  {escape(row['message'])}{fields}"
    out.print(f"[dim]{at:%H:%M:%S.%f}[/]  {told}", soft_wrap=True)
