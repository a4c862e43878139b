"""connectors and secrets: what outside services are known, whether they answer, and the secrets kept in the ledger."""

from __future__ import annotations

import sys

import click

from orchestrator import redaction
from orchestrator.activities.connectors.check import check
from orchestrator.activities.connectors.source import Connectors
from orchestrator.cli.exits import FAILED
from orchestrator.cli.output import console, json_option, shown_time, table, write_json
from orchestrator.cli.reach import ledger
from orchestrator.config import Settings, load
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.ledger import secrets


@click.group("secrets")
def secrets_group() -> None:
    """Secrets of connectors, encrypted in the ledger; their values are never shown."""


@secrets_group.command("key")
def key_command() -> None:
    """Print a new key for ORCHESTRATOR_SECRET_KEYS. Several keys are separated by commas; the first encrypts."""
    click.echo(secrets.new_key())


@secrets_group.command("set")
@click.argument("name")
def set_command(name: str) -> None:
    """Keep a secret under NAME, or replace it. Its value is asked for, or read from standard input."""
    settings = load()
    keys = secrets.Keys(settings.secret_keys)
    value = _asked(name) if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if len(value) < redaction.SHORTEST:
        raise ConfigurationError(
            f"a secret of fewer than {redaction.SHORTEST} characters cannot be kept out of logs; use a longer one"
        )
    with ledger(settings) as connection:
        is_new = secrets.put(connection, keys, settings.tenant, name, value)
    click.echo(f"{name} is {'set' if is_new else 'replaced'}; workers use it within a minute")


@secrets_group.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Names of the secrets, and when each was set; never values."""
    settings = load()
    with ledger(settings) as connection:
        rows = secrets.listed(connection, settings.tenant)
    if as_json:
        write_json(rows)
        return
    drawn = table("secret", "created", "updated")
    for row in rows:
        drawn.add_row(row["name"], shown_time(row["created_at"]), shown_time(row["updated_at"]))
    console().print(drawn)


@secrets_group.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Forget the secret of NAME."""
    settings = load()
    with ledger(settings) as connection:
        if not secrets.remove(connection, settings.tenant, name):
            raise ConfigurationError(f"there is no secret {name}; `orchestrator secrets list` shows those there are")
    click.echo(f"{name} is removed")


@secrets_group.command("rotate")
def rotate_command() -> None:
    """Encrypt every secret with the first of ORCHESTRATOR_SECRET_KEYS, after which the others may go."""
    settings = load()
    keys = secrets.Keys(settings.secret_keys)
    with ledger(settings) as connection:
        count = secrets.rotate(connection, keys, settings.tenant)
    click.echo(f"{count} secrets are encrypted with the first key")


@click.group("connectors")
def connectors_group() -> None:
    """Connectors: the outside services that ORCHESTRATOR_CONNECTORS names."""


@connectors_group.command("list")
@json_option
def connectors_list_command(as_json: bool) -> None:
    """Each connector's name and kind; resolves no secret."""
    found = _connectors(load())
    if as_json:
        write_json([{"name": name, "kind": kind} for name, kind in sorted(found.kinds.items())])
        return
    drawn = table("connector", "kind")
    for name, kind in sorted(found.kinds.items()):
        drawn.add_row(name, kind)
    console().print(drawn)
    if not found.kinds:
        click.echo("no connectors: name a file of them in ORCHESTRATOR_CONNECTORS", err=True)


@connectors_group.command("check")
@click.argument("name")
@json_option
def check_command(name: str, as_json: bool) -> None:
    """Resolve the secrets of the connector NAME and see whether its service answers; sends no message."""
    found = _connectors(load())
    try:
        told, answers = check(found.get(name), found.networks), True
    except OrchestratorError as error:
        told, answers = str(error), False
    if as_json:
        write_json({"name": name, "ok": answers, "message": told})
    else:
        click.echo(f"{name}: {told}", err=not answers)
    if not answers:
        raise SystemExit(FAILED)


def _connectors(settings: Settings) -> Connectors:
    def secret(name: str) -> str | None:
        keys = secrets.Keys(settings.secret_keys)
        with ledger(settings) as connection:
            return secrets.get(connection, keys, settings.tenant, name)

    return Connectors(settings.connectors, secret=secret, allow_networks=settings.http_allow_networks)


def _asked(name: str) -> str:
    return str(click.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True))
