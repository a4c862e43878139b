"""signal, send, emit: what people and scripts tell executions that go on."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.given import json_data
from orchestrator.cli.output import json_option, write_json
from orchestrator.cli.reach import opened

_payload = click.option(
    "--payload", "-p", callback=json_data, metavar="JSON|@FILE|-", help="What goes with it; null by default."
)
_actor = click.option("--actor", help="Who sends it, for the history.")
_id = click.option("--id", "dedup_id", help="The sender's own id: the same is accepted once.")


@click.command("signal", epilog=EXIT_CODES)
@click.argument("execution")
@click.argument("name")
@_payload
@_actor
@_id
@json_option
def signal_command(
    *, execution: str, name: str, payload: Any, actor: str | None, dedup_id: str | None, as_json: bool
) -> None:
    """Send the signal NAME to an EXECUTION. It is kept until a step waits for it."""
    with opened() as found:
        _tell(found.signal(execution, name, payload, actor=actor, id=dedup_id), as_json)


@click.command("send", epilog=EXIT_CODES)
@click.argument("execution")
@click.argument("event")
@_payload
@_actor
@click.option("--role", "roles", multiple=True, help="A role of the actor's; may be repeated.")
@_id
@json_option
def send_command(
    *,
    execution: str,
    event: str,
    payload: Any,
    actor: str | None,
    roles: tuple[str, ...],
    dedup_id: str | None,
    as_json: bool,
) -> None:
    """Send the EVENT to the machine that an EXECUTION is. Refused events name those that are allowed."""
    with opened() as found:
        _tell(found.send(execution, event, payload, actor=actor, roles=roles, id=dedup_id), as_json)


@click.command("emit", epilog=EXIT_CODES)
@click.argument("name")
@click.argument("correlation")
@_payload
@_actor
@_id
@json_option
def emit_command(
    *, name: str, correlation: str, payload: Any, actor: str | None, dedup_id: str | None, as_json: bool
) -> None:
    """Record the event NAME for every execution that waits for it with this CORRELATION, now or later."""
    with opened() as found:
        _tell(found.emit(name, payload, correlation=correlation, actor=actor, id=dedup_id), as_json)


def _tell(accepted: bool, as_json: bool) -> None:
    if as_json:
        write_json({"accepted": accepted})
    else:
        click.echo("accepted" if accepted else "known already: this id was accepted before")
