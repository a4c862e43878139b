"""audit: who did what by hand, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from uuid import UUID

import click
from rich.markup import escape

from orchestrator.cli.output import console, json_option, shown_time, table, write_json
from orchestrator.cli.reach import ledger
from orchestrator.config import load
from orchestrator.ledger import audit


@click.command("audit")
@click.argument("execution_id", metavar="[EXECUTION]", required=False, type=click.UUID)
@click.option("--actor", help="Only what this one did.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@json_option
def audit_command(execution_id: UUID | None, actor: str | None, limit: int, as_json: bool) -> None:
    """Commands of operators that took effect, newest first: by whom, to what, and why."""
    settings = load()
    with ledger(settings) as connection:
        about = None if execution_id is None else str(execution_id)
        found = audit.entries(connection, settings.tenant, about, actor, limit=limit)
    if as_json:
        write_json([asdict(entry) for entry in found])
        return
    rows = table("time", "actor", "command", "execution", "path", "reason", "parameters")
    rows.columns[3].no_wrap = True
    for entry in found:
        rows.add_row(
            shown_time(entry.at),
            escape(entry.actor),
            entry.command,
            entry.execution_id or "",
            escape(entry.path or ""),
            escape(entry.reason or ""),
            escape(json.dumps(entry.parameters, ensure_ascii=False)) if entry.parameters else "",
        )
    console().print(rows)
    if not found:
        click.echo("nothing was done by hand", err=True)
