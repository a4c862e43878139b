"""incidents: what somebody should look at, who does, and what came of it."""

from __future__ import annotations

import getpass
import json
from typing import Any
from uuid import UUID

import click
from rich.markup import escape

from orchestrator.cli.output import console, json_option, shown_time, table, write_json
from orchestrator.cli.reach import opened
from orchestrator.engine.incidents import KINDS, command

_actor = click.option("--actor", help="Who does this; by default your user name.")


@click.group("incidents")
def incidents_group() -> None:
    """Incidents: opened and resolved by themselves, one for all failures alike."""


@incidents_group.command("list")
@click.option("--all", "everything", is_flag=True, help="Closed ones too.")
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="The latest so many.")
@json_option
def list_command(*, everything: bool, kind: str | None, limit: int, as_json: bool) -> None:
    """Open incidents, the latest first."""
    with opened() as found:
        rows = found.incidents("all" if everything else "open", kind, limit=limit)
    if as_json:
        write_json(rows)
        return
    drawn = table("id", "kind", "count", "last", "assignee", "incident")
    for row in rows:
        closed = "" if row["closed_at"] is None else f" [dim](closed by {escape(row['closed_by'])})[/]"
        drawn.add_row(
            str(row["id"]),
            row["kind"],
            str(row["count"]),
            shown_time(row["last_at"]),
            escape(row["assignee"] or ""),
            escape(row["title"]) + closed,
        )
    console().print(drawn)
    if not rows:
        click.echo("no incidents", err=True)


@incidents_group.command("show")
@click.argument("incident", metavar="ID", type=click.UUID)
@json_option
def show_command(incident: UUID, as_json: bool) -> None:
    """One incident, its executions, and the command that helps."""
    with opened() as found:
        row = found.incident(str(incident))
    subjects = [_helped(row, subject) for subject in row["subjects"]]
    helps = command(row["kind"], row["detail"], None)
    if as_json:
        write_json(row | {"subjects": subjects, "command": helps})
        return
    out = console()
    out.print(f"[bold]{escape(row['title'])}[/]", soft_wrap=True)
    for label, value in _facts(row):
        out.print(f"{label}: {escape(value)}", style="dim", soft_wrap=True)
    if helps is not None:
        out.print(f"[cyan]$ {escape(helps)}[/]", soft_wrap=True)
    for subject in subjects:
        # No table: whoever copies a command wants it whole, however narrow the terminal.
        words = (subject["execution_id"], subject["definition_name"], subject["status"] or "gone", subject["path"])
        out.print(escape("  ".join(str(word) for word in (shown_time(subject["at"]), *words) if word)), soft_wrap=True)
        if subject["command"] is not None:
            out.print(f"  [cyan]$ {escape(subject['command'])}[/]", soft_wrap=True)


def _helped(row: dict[str, Any], subject: dict[str, Any]) -> dict[str, Any]:
    own = None if row["kind"] == "queue_without_consumer" else str(subject["execution_id"])
    return subject | {"command": command(row["kind"], row["detail"], own) if own else None}


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    closed = f"{shown_time(row['closed_at'])} by {row['closed_by']}: {row['reason']}" if row["closed_at"] else None
    facts = {
        "kind": row["kind"],
        "opened": shown_time(row["opened_at"]),
        "last": f"{shown_time(row['last_at'])}, {row['count']} in all",
        "assignee": row["assignee"],
        "closed": closed,
    }
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row["detail"].items()}
    return [(name, value) for name, value in (facts | told).items() if value]


@incidents_group.command("assign")
@click.argument("incident", metavar="ID", type=click.UUID)
@click.argument("who")
@_actor
@json_option
def assign_command(*, incident: UUID, who: str, actor: str | None, as_json: bool) -> None:
    """Give an open incident to WHO."""
    with opened() as found:
        found.assign_incident(str(incident), who, _acting(actor))
    _tell(as_json, {"id": str(incident), "assignee": who}, f"{incident} is {who}'s")


@incidents_group.command("close")
@click.argument("incident", metavar="ID", type=click.UUID)
@click.option("--reason", required=True, help="What came of it.")
@_actor
@json_option
def close_command(*, incident: UUID, reason: str, actor: str | None, as_json: bool) -> None:
    """Close an open incident. What goes wrong later opens another."""
    with opened() as found:
        found.close_incident(str(incident), _acting(actor), reason)
    _tell(as_json, {"id": str(incident), "reason": reason}, f"{incident} is closed")


def _acting(actor: str | None) -> str:
    return actor or getpass.getuser()


def _tell(as_json: bool, data: dict[str, Any], sentence: str) -> None:
    if as_json:
        write_json(data)
    else:
        click.echo(sentence)
