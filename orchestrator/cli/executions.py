"""list and show: executions for people to look at, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape
from sqlalchemy import Connection, func, select

from orchestrator.cli.filters import Filters, filter_options
from orchestrator.cli.output import coloured, console, json_option, shown_time, span, table, write_json
from orchestrator.cli.reach import ledger
from orchestrator.cli.timeline import LEGEND, Bar, axis, bars, draw, name
from orchestrator.config import load
from orchestrator.errors import ExecutionNotFound
from orchestrator.ledger import views
from orchestrator.ledger.selection import selected
from orchestrator.sealed import shown

#: So many steps are shown to people; a loop may have thousands.
_MOST = 100
#: Characters of an output or error that a table shows.
_SHORT = 60
#: Columns of the timeline.
_WIDTH = 72


@click.command("list")
@filter_options
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@json_option
def list_command(filters: Filters, limit: int, as_json: bool) -> None:
    """Executions, newest first."""
    settings = load()
    with ledger(settings) as connection:
        found = list(selected(connection, filters.selection(settings.tenant), limit=limit))
    if as_json:
        write_json(found)
        return
    rows = table("id", "definition", "status", "started", "took", "key", "correlation id")
    for row in found:
        rows.add_row(
            str(row["id"]),
            f"{row['definition_name']} v{row['definition_version']}",
            coloured(row["status"]),
            shown_time(row["created_at"]),
            span((row["settled_at"] - row["created_at"]).total_seconds()) if row["settled_at"] else "",
            escape(row["idempotency_key"] or ""),
            escape(row["correlation_id"] or ""),
        )
    console().print(rows)
    if not found:
        click.echo("no executions", err=True)


@click.command("show")
@click.argument("execution_id", metavar="ID", type=click.UUID)
@json_option
def show_command(execution_id: UUID, as_json: bool) -> None:
    """One execution: how it stands, its steps, and its timeline."""
    with ledger() as connection:
        row, steps, events, now = read(connection, str(execution_id))
    if as_json:
        write_json({"execution": row, "steps": steps, "events": events})
        return
    out = console()
    drawn = bars(events, row["settled_at"] or now)
    _print_head(out, row)
    _print_steps(out, steps, {bar.path: bar for bar in drawn})
    _print_timeline(out, drawn, row["created_at"], row["settled_at"] or now)


def read(connection: Connection, execution_id: str) -> tuple[dict[str, Any], list[Any], list[Any], datetime]:
    """An execution's row, steps, events and the database's time; ExecutionNotFound when there is none."""
    row = views.execution(connection, execution_id)
    if row is None:
        raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
    events: list[dict[str, Any]] = []
    while page := views.events(connection, execution_id, after=events[-1]["id"] if events else 0):
        events += page
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    return row, views.steps(connection, execution_id), events, now


def _print_head(out: Console, row: Mapping[str, Any]) -> None:
    took = f", took {span((row['settled_at'] - row['created_at']).total_seconds())}" if row["settled_at"] else ""
    title = f"{row['definition_name']} v{row['definition_version']}"
    out.print(f"[bold]{title}[/]  {row['id']}  {coloured(row['status'])}{took}")
    out.print(f"started {shown_time(row['created_at'])}", style="dim")
    for label, value in (
        ("state", row["state"]),
        ("parent", row["parent_id"] and f"{row['parent_id']} {row['parent_path']}"),
        ("key", row["idempotency_key"]),
        ("correlation id", row["correlation_id"]),
        ("labels", row["labels"] or None),
        ("input", shown(row["input"])),
        ("output", shown(row["output"])),
        ("error", row["error"]),
    ):
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            out.print(f"{label}: {escape(_shortened(text, 200))}", style="red" if label == "error" else "dim")


def _print_steps(out: Console, steps: Sequence[Mapping[str, Any]], drawn: Mapping[str, Bar]) -> None:
    rows = table("step", "status", "attempts", "waited", "ran", "queue", "result")
    for step in steps[:_MOST]:
        bar = drawn.get(step["path"])
        label = escape(name(step["path"]))
        rows.add_row(
            f"[magenta]{label}[/]" if step["undoes"] else label,
            coloured(step["status"]) + (" [yellow](halted)[/]" if step.get("halt") else ""),
            str(step["attempt"]) if step["attempt"] else "",
            span(bar.waited) if bar else "",
            span(bar.ran) if bar and bar.attempts else "",
            step["queue"],
            _result(step),
        )
    out.print()
    out.print(rows)
    if len(steps) > _MOST:
        out.print(f"and {len(steps) - _MOST:,} more; --json has them all", style="dim")


def _result(step: Mapping[str, Any]) -> str:
    if step["status"] == "running":
        progress = step.get("progress")
        told = "" if progress is None else f", at {_shortened(json.dumps(progress, ensure_ascii=False), _SHORT)}"
        return f"[cyan]held by {escape(step['owner'] or '')}{escape(told)}[/]"
    if step["status"] == "waiting":
        return f"[cyan]{escape(_awaited(step))}[/]"
    error = step["error"]
    if error is not None and step["status"] != "succeeded":
        return f"[red]{escape(_shortened(_told(error), _SHORT))}[/]"
    output = shown(step["output"])
    return "" if output is None else f"[dim]{escape(_shortened(json.dumps(output, ensure_ascii=False), _SHORT))}[/]"


def _awaited(step: Mapping[str, Any]) -> str:
    """What a step waits for, and until when at most."""
    what = {
        "body": "waits for its steps",
        "child": f"waits for execution {step['wait_name']}",
        "event": "waits for an event",
        "undo": "waits until its steps are undone",
        "signal": f"waits for signal {step['wait_name']}",
    }.get(step["awaits"], "waits")
    about = f" about {step['correlation']}" if step["correlation"] else ""
    return what + about + (f" until {shown_time(step['due_at'])}" if step["due_at"] else "")


def _print_timeline(out: Console, drawn: Sequence[Bar], begin: datetime, end: datetime) -> None:
    margin = max((len(name(bar.path)) for bar in drawn), default=0)
    width = max(20, min(_WIDTH, out.width - margin - 16))
    out.print()
    out.print(axis(begin, end, margin, width))
    for line in draw(drawn[:_MOST], begin, end, width):
        out.print(line, no_wrap=True, overflow="crop")
    out.print(LEGEND, style="dim")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _told(error: Mapping[str, Any]) -> str:
    return f"{error.get('name')}: {error.get('message')}"
