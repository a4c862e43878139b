"""purge: executions that ended long ago go, with everything about them."""

from __future__ import annotations

import sys
from datetime import datetime

import click
from sqlalchemy import Engine

from orchestrator import durations
from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.output import console, json_option, notes, progress_bar, table, write_json
from orchestrator.cli.reach import engine
from orchestrator.config import load
from orchestrator.ledger import purges
from orchestrator.ledger.purges import Purge
from orchestrator.model.state import FINAL_EXECUTIONS


@click.command("purge", epilog=EXIT_CODES)
@click.option("--before", "when", required=True, metavar="WHEN", help="Ended before: 30d ago, or 2026-01-31T00:00Z.")
@click.option("--definition", "-d", metavar="NAME", help="Only of this definition.")
@click.option(
    "--status",
    "-s",
    "statuses",
    multiple=True,
    type=click.Choice(sorted(status.value for status in FINAL_EXECUTIONS)),
    help="Only in this status; may be repeated.",
)
@click.option("--batch", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Of one transaction.")
@click.option("--dry-run", is_flag=True, help="Count what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge_command(
    *,
    when: str,
    definition: str | None,
    statuses: tuple[str, ...],
    batch: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete executions that ended before a time, with their steps, histories, logs and signals.

    Idempotency keys stay: the same start gives the same execution. What is about to be retried stays, and children as
    long as their parents. Safe beside working workers.
    """
    settings = load()
    with engine(settings) as reached:
        before = _time(reached, when)
        which = Purge(before=before, tenant=settings.tenant, name=definition, statuses=statuses)
        with reached.connect() as connection:
            counts = purges.counted(connection, which)
        total = sum(count for _, _, count in counts)
        if not as_json:
            _show(counts)
        if not dry_run and total and not yes:
            if as_json or not sys.stdin.isatty():
                raise click.UsageError(f"{total:,} executions would be deleted; say --yes")
            click.confirm(f"delete {total:,} executions that ended before {before:%Y-%m-%d %H:%M:%S %Z}?", abort=True)
        purged = 0 if dry_run else _purge(reached, which, batch, total)
    if as_json:
        found = [{"definition": name, "status": status, "executions": count} for name, status, count in counts]
        write_json({"before": before, "dry_run": dry_run, "found": found, "purged": purged})
    else:
        click.echo(f"dry run: would purge {total:,} executions" if dry_run else f"{purged:,} executions are purged")


def _time(reached: Engine, when: str) -> datetime:
    """A moment that has its zone, or so long ago by the database's clock."""
    try:
        seconds = durations.seconds(when)
    except ValueError:
        try:
            found = datetime.fromisoformat(when)
        except ValueError:
            raise click.BadParameter(f"{when!r} is neither a duration such as 30d nor a time in ISO 8601") from None
        if found.tzinfo is None:
            raise click.BadParameter(f"{when!r} has no time zone; write {when}Z or {when}+01:00") from None
        return found
    with reached.connect() as connection:
        return purges.ago(connection, seconds)


def _purge(reached: Engine, which: Purge, batch: int, total: int) -> int:
    purged = 0
    with progress_bar(notes()) as bar:
        done = bar.add_task("purged", total=total)
        while True:
            with reached.connect() as connection:
                count = purges.purge(connection, which, batch)
            purged += count
            bar.advance(done, count)
            if not count:
                return purged


def _show(counts: list[tuple[str, str, int]]) -> None:
    if counts:
        drawn = table("definition", "status", "executions")
        for name, status, count in counts:
            drawn.add_row(name, status, f"{count:,}")
        console().print(drawn)
