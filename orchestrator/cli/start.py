"""start: one execution, from the command line."""

from __future__ import annotations

import math
from typing import Any

import click

from orchestrator.cli.exits import EXECUTION_FAILED, EXIT_CODES
from orchestrator.cli.given import json_data, labelled
from orchestrator.cli.output import coloured, console, json_option, write_json
from orchestrator.cli.reach import opened
from orchestrator.engine.handle import ExecutionHandle
from orchestrator.errors import ExecutionFailed


@click.command("start", epilog=EXIT_CODES)
@click.argument("name")
@click.option("--input", "-i", "data", callback=json_data, metavar="JSON|@FILE|-", help="The input; null by default.")
@click.option("--key", "-k", help="Idempotency key: the same key and input give the same execution.")
@click.option("--version", type=click.IntRange(min=1), help="Of the definition; the newest by default.")
@click.option("--correlation-id", help="Found in logs and lists.")
@click.option(
    "--label",
    "labels",
    callback=labelled,
    metavar="K=V",
    multiple=True,
    help="For finding executions; may be repeated.",
)
@click.option(
    "--wait",
    is_flag=False,
    flag_value=math.inf,
    type=click.FloatRange(min=0),
    metavar="[SECONDS]",
    help="Wait for the end, for ever or so long, and print the output.",
)
@json_option
def start_command(
    *,
    name: str,
    data: Any,
    key: str | None,
    version: int | None,
    correlation_id: str | None,
    labels: dict[str, str],
    wait: float | None,
    as_json: bool,
) -> None:
    """Start an execution of the definition NAME and print its id.

    It is durable when this returns, whether or not a worker is up.
    """
    with opened() as found:
        handle = found.start(
            name,
            data,
            idempotency_key=key,
            version=version,
            correlation_id=correlation_id,
            labels=labels,
            actor="command line",
        )
        if wait is None:
            _print_started(handle, as_json)
        else:
            _await(handle, None if math.isinf(wait) else wait, as_json)


def _print_started(handle: ExecutionHandle, as_json: bool) -> None:
    if as_json:
        write_json({"id": handle.id, "created": handle.created, "status": handle.status()})
        return
    click.echo(handle.id)
    if not handle.created:
        click.echo("this key was used before: that is its execution", err=True)


def _await(handle: ExecutionHandle, seconds: float | None, as_json: bool) -> None:
    click.echo(f"waiting for {handle.id}", err=True)
    about: dict[str, Any] = {"id": handle.id, "created": handle.created}
    try:
        output = handle.result(seconds)
    except ExecutionFailed as failed:
        if as_json:
            write_json(about | {"status": failed.status, "output": None, "error": failed.error})
        click.echo(str(failed), err=True)
        raise SystemExit(EXECUTION_FAILED) from None
    if as_json:
        write_json(about | {"status": "succeeded", "output": output, "error": None})
        return
    console().print(f"{handle.id} {coloured('succeeded')}", soft_wrap=True)
    write_json(output)
