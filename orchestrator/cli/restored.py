"""restored: take up a ledger that was restored from a backup."""

from __future__ import annotations

from typing import Any

import click
from rich.markup import escape

from orchestrator.cli.control import accountable
from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.output import console, json_option, shown_time, table, write_json
from orchestrator.cli.reach import opened
from orchestrator.engine.restore import Restored


@click.command("restored", epilog=EXIT_CODES)
@click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing.")
@accountable
@json_option
def restored_command(*, dry_run: bool, said: dict[str, Any], as_json: bool) -> None:
    """Take up a ledger that was restored from a backup, before the first worker is started.

    Claims of the time before are taken back, and time is counted as if it had stood still since. What may be done again
    goes on by itself. An execution in which something outside may have been done since the backup, and would be done
    twice, is paused, and an incident tells of it.
    """
    with opened() as found:
        restored = found.restored(dry_run=dry_run, **said)
    if as_json:
        write_json({"dry_run": dry_run, **restored.as_data()})
        return
    _show(restored)
    if dry_run:
        click.echo("dry run: nothing was done")
    elif restored.held:
        click.echo("see: orchestrator incidents list --kind restored")


def _show(restored: Restored) -> None:
    if restored.heard is None:
        click.echo("nothing was ever done by this ledger")
        return
    click.echo(f"last worked on {shown_time(restored.heard)}, {restored.stood_still:,.0f} s ago")
    click.echo(f"{restored.released:,} claims taken back; {restored.going_on:,} executions go on by themselves")
    click.echo(f"{restored.executions_held:,} are paused, as some of it may have been done since")
    if restored.held:
        drawn = table("definition", "version", "paused", "may have been done since")
        for held in restored.held:
            steps = escape(", ".join(held.steps))
            drawn.add_row(escape(held.definition), str(held.version), f"{held.executions:,}", steps)
        console().print(drawn)
