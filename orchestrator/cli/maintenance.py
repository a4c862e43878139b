"""maintenance: start nothing new, hold what is asked for, finish what runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from orchestrator.cli.control import accountable
from orchestrator.cli.output import json_option, shown_time, write_json
from orchestrator.cli.reach import opened


@click.group("maintenance")
def maintenance_group() -> None:
    """Maintenance mode: starts are accepted and held, what runs is finished."""


@maintenance_group.command("on")
@accountable
@json_option
def on_command(*, said: dict[str, Any], as_json: bool) -> None:
    """Hold whatever is started from now on."""
    _switch(True, said, as_json)


@maintenance_group.command("off")
@accountable
@json_option
def off_command(*, said: dict[str, Any], as_json: bool) -> None:
    """Let what was held begin, and start executions again."""
    _switch(False, said, as_json)


@maintenance_group.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Whether it is on, since when, by whom and why, and how many starts it holds."""
    with opened() as found:
        mode = found.in_maintenance()
    if as_json:
        write_json({"maintenance": mode is not None, **(asdict(mode) if mode else {})})
    elif mode is None:
        click.echo("maintenance mode is off")
    else:
        why = f" ({mode.reason})" if mode.reason else ""
        since = f"since {shown_time(mode.since)}, by {mode.actor}{why}"
        click.echo(f"maintenance mode is on {since}; {mode.held:,} starts are held")


def _switch(on: bool, said: dict[str, Any], as_json: bool) -> None:
    with opened() as found:
        changed = found.maintenance(on, **said)
    state = "on" if on else "off"
    if as_json:
        write_json({"maintenance": on, "changed": changed})
    else:
        click.echo(f"maintenance mode is {state}" if changed else f"maintenance mode was {state} already")
