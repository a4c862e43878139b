"""definitions: what the configured modules hold, what is published, and publishing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from orchestrator.authoring.discovery import Catalog
from orchestrator.cli.exits import FAILED
from orchestrator.cli.output import console, json_option, table, write_json
from orchestrator.cli.reach import catalog, ledger
from orchestrator.config import Settings, load
from orchestrator.ledger import definitions
from orchestrator.ledger.definitions import publish


@click.group("definitions", invoke_without_command=True)
@json_option
@click.pass_context
def definitions_group(context: click.Context, as_json: bool) -> None:
    """Definitions of the configured modules and of the ledger, and whether they agree.

    Without a database only the modules' are shown.
    """
    if context.invoked_subcommand is not None:
        return
    settings = load()
    local, published = catalog(settings), _published(settings)
    rows = _rows(local, published)
    if as_json:
        write_json({"definitions": rows, "problems": [str(problem) for problem in local.problems]})
    else:
        _print(rows)
    for problem in local.problems:
        click.echo(str(problem), err=True)
    if local.problems:
        raise SystemExit(FAILED)


@definitions_group.command("publish")
@json_option
def publish_command(as_json: bool) -> None:
    """Publish every definition of the configured modules. What is published never changes."""
    settings = load()
    local = catalog(settings)
    local.raise_problems()
    with ledger(settings) as connection:
        done = [
            publish(connection, settings.tenant, found, new_version=settings.dev_mode) for found in local.definitions
        ]
    if as_json:
        write_json([{"name": found.name, "version": found.version, "checksum": found.checksum} for found in done])
        return
    for found in done:
        click.echo(f"{found.name} v{found.version} is published")
    if not done:
        click.echo("nothing to publish: name your modules in ORCHESTRATOR_MODULES", err=True)


def _published(settings: Settings) -> list[dict[str, Any]]:
    if settings.database_url is None:
        click.echo("no database: ORCHESTRATOR_DATABASE_URL is not set, so only the modules' are shown", err=True)
        return []
    with ledger(settings) as connection:
        return definitions.listed(connection, settings.tenant)


def _rows(local: Catalog, published: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each name and version."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in published:
        rows[(row["name"], row["version"])] = {
            "name": row["name"],
            "version": row["version"],
            "published": row["checksum"],
            "local": None,
        }
    for found in local.definitions:
        empty = {"name": found.name, "version": found.version, "published": None}
        rows.setdefault((found.name, found.version), empty)["local"] = found.checksum()
    return [rows[key] | {"state": _state(rows[key])} for key in sorted(rows)]


def _state(row: dict[str, Any]) -> str:
    if row["published"] is None:
        return "not published"
    if row["local"] is None:
        return "published"
    return "published" if row["local"] == row["published"] else "changed"


def _print(rows: Sequence[dict[str, Any]]) -> None:
    drawn = table("definition", "version", "state", "here", "checksum")
    colours = {"published": "green", "changed": "red", "not published": "yellow"}
    for row in rows:
        drawn.add_row(
            row["name"],
            str(row["version"]),
            f"[{colours[row['state']]}]{row['state']}[/]",
            "yes" if row["local"] else "no",
            (row["local"] or row["published"])[:12],
        )
    console().print(drawn)
    if not rows:
        click.echo("no definitions: name your modules in ORCHESTRATOR_MODULES", err=True)
