"""What commands print: JSON or tables on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

#: Columns of what is no terminal: wide enough for an id and its neighbours.
_WIDTH = 140

#: Statuses of executions and steps by the colour that they are shown in.
_COLOURS = {
    "succeeded": "green",
    "running": "cyan",
    "ready": "cyan",
    "retrying": "yellow",
    "waiting": "yellow",
    "compensating": "magenta",
    "compensated": "magenta",
    "cancelled": "yellow",
    "released": "yellow",
    "fenced": "yellow",
    "failed": "red",
    "failing": "red",
    "timed_out": "red",
    "timing_out": "red",
    "compensation_failed": "red",
}


def json_option(function: F) -> F:
    """--json, for every command that prints something."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(function)


def console() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def notes() -> Console:
    """Standard error: progress, hints, warnings."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH)


def table(*columns: str) -> Table:
    """An empty table in the house's look; ids and names are never folded."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=column in {"id", "step", "definition", "status"}, overflow="fold")
    return made


def coloured(status: str) -> str:
    """A status as rich markup."""
    colour = _COLOURS.get(status)
    return f"[{colour}]{status}[/]" if colour else status


def write_json(data: Any, *, line: bool = False) -> None:
    """Print data as JSON: indented, or as one line of a stream."""
    click.echo(json.dumps(data, indent=None if line else 2, default=_plain, ensure_ascii=False))


def shown_time(at: datetime | None) -> str:
    """A time as people read it, in their own zone."""
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def span(seconds: float) -> str:
    """A duration as people read it: 3 ms, 1.24 s, 2:05 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{value!r} is not JSON")


def progress_bar(out: Console) -> Progress:
    """A bar for long work, with what is done of how much; nothing where it would fill a log."""
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=50),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=out, disable=not out.is_terminal)
