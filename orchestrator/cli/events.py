"""events: an execution's history, as it stands or as it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape
from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.cli.output import console, json_option, write_json
from orchestrator.cli.reach import ledger
from orchestrator.cli.timeline import name
from orchestrator.errors import ExecutionNotFound
from orchestrator.ledger import views
from orchestrator.model.state import FINAL_EXECUTIONS
from orchestrator.sealed import shown

#: Seconds between looks at the history.
_POLL = 0.25
#: Branches commit side by side, so an event may come after one with a greater id: so far back it is looked for.
_OVERLAP = timedelta(seconds=30)


@click.command("events")
@click.argument("execution_id", metavar="ID", type=click.UUID)
@click.option("--follow", "-f", is_flag=True, help="Go on until the execution has ended.")
@json_option
def events_command(execution_id: UUID, follow: bool, as_json: bool) -> None:
    """The history of an execution, oldest first; with --json one object a line."""
    out = console()
    with ledger() as connection:
        for event in told(connection, str(execution_id), follow=follow):
            if as_json:
                write_json(event, line=True)
            else:
                _print(out, event)


def told(connection: Connection, execution_id: str, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Each event once; with `follow` until the execution has ended. ExecutionNotFound when there is none."""
    seen: dict[int, Any] = {}
    after = 0
    while True:
        # Asked first: what was written before the end is then read below.
        found = views.status(connection, execution_id)
        if found is None:
            raise ExecutionNotFound(f"no execution has the id {execution_id}; `orchestrator list` shows them")
        for event in _since(connection, execution_id, after):
            if event["id"] not in seen:
                seen[event["id"]] = event["at"]
                yield event
        if not follow or found[0] in FINAL_EXECUTIONS:
            return
        horizon = max(seen.values(), default=None)
        old = [event for event, at in seen.items() if horizon is not None and at < horizon - _OVERLAP]
        after = max(old, default=after)
        seen = {event: at for event, at in seen.items() if event > after}
        clock.pause(_POLL)


def _since(connection: Connection, execution_id: str, after: int) -> Iterator[dict[str, Any]]:
    while page := views.events(connection, execution_id, after):
        yield from page
        after = page[-1]["id"]


def _print(out: Console, event: Mapping[str, Any]) -> None:
    where = f" {escape(name(event['path']))}" if event["path"] else ""
    attempt = f" [dim]attempt {event['attempt']}[/]" if event["attempt"] else ""
    data = f"  [dim]{escape(json.dumps(shown(event['data']), ensure_ascii=False))}[/]" if event["data"] else ""
    at = event["at"].astimezone()
    out.print(f"[dim]{at:%H:%M:%S.%f}[/]  {event['type']}{where}{attempt}{data}", soft_wrap=True)
