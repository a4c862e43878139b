"""worker list, drain and resume: the nodes that there are, and which of them take up no more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
from sqlalchemy import Connection

from orchestrator import clock
from orchestrator.cli.control import accountable
from orchestrator.cli.given import duration
from orchestrator.cli.output import coloured, console, json_option, span, table, write_json
from orchestrator.cli.reach import ledger
from orchestrator.config import Settings, load
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import nodes
from orchestrator.ledger.nodes import WorkerNode

#: Seconds between looks at a node that drains.
_POLL = 0.25


@click.command("list")
@json_option
def list_nodes_command(as_json: bool) -> None:
    """Worker nodes: living, draining, and those that have died within the hour."""
    settings = load()
    with ledger(settings) as connection:
        found = nodes.nodes(connection, settings.tenant, settings.dead_after)
    if as_json:
        write_json([{**asdict(node), "state": node.state} for node in found])
        return
    shown = table("node", "state", "pid", "queues", "steps", "heard")
    for node in found:
        queues = ", ".join(node.queues) or "none"
        heard = f"{span(node.silent)} ago"
        shown.add_row(node.name, coloured(node.state), str(node.pid), queues, str(node.claims), heard)
    console().print(shown if found else "no worker node is there; `orchestrator worker` starts one")


@click.command("drain")
@click.argument("name", metavar="NAME")
@click.option("--wait", is_flag=True, help="Until nothing runs on it any more.")
@click.option("--timeout", callback=duration, metavar="DURATION", help="How long to wait at most: 90, 5m.")
@accountable
@json_option
def drain_command(*, name: str, wait: bool, timeout: float | None, said: dict[str, Any], as_json: bool) -> None:
    """Have a node take up no more: what runs on it is finished, and then it can be ended without loss.

    NAME is what `orchestrator worker list` shows, or a beginning of it that only one node has.
    """
    _switch(name, True, said, as_json, wait=wait, timeout=timeout)


@click.command("resume")
@click.argument("name", metavar="NAME")
@accountable
@json_option
def resume_node_command(*, name: str, said: dict[str, Any], as_json: bool) -> None:
    """Have a node that drains take up steps again."""
    _switch(name, False, said, as_json)


def _switch(
    name: str, on: bool, said: dict[str, Any], as_json: bool, *, wait: bool = False, timeout: float | None = None
) -> None:
    settings = load()
    with ledger(settings) as connection:
        node = _named(connection, settings, name)
        changed = nodes.drain(connection, node.boot_id, on=on, **said)
        if wait:
            _await_idle(connection, settings, node, timeout)
    if as_json:
        write_json({"node": node.name, "draining": on, "changed": changed, "idle": wait})
        return
    state = "drains" if on else "takes up steps"
    told = f"{node.name} {state}" if changed else f"{node.name} {state} already"
    click.echo(f"{told}; nothing runs on it" if wait else told)


def _named(connection: Connection, settings: Settings, name: str) -> WorkerNode:
    living = [node for node in nodes.nodes(connection, settings.tenant, settings.dead_after) if not node.dead]
    found = [node for node in living if node.name == name] or [n for n in living if n.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(node.name for node in found or living) or "none"
    problem = f"several living nodes begin with {name}" if found else f"no living node is called {name}"
    raise OrchestratorError(f"{problem}; there are: {known}")


def _await_idle(connection: Connection, settings: Settings, node: WorkerNode, timeout: float | None) -> None:
    """Twice in a row, a heartbeat apart: what it had taken from the broker before it was told is still carried out."""
    begun, idle_since = clock.elapsed(), None
    while True:
        now = next((n for n in nodes.nodes(connection, settings.tenant, 1e9) if n.boot_id == node.boot_id), None)
        if now is None:
            return
        # Its own row says so once it consumes nothing any more.
        idle_since = None if now.claims or now.queues else idle_since or clock.elapsed()
        if idle_since is not None and clock.elapsed() - idle_since >= settings.heartbeat_interval:
            return
        if timeout is not None and clock.elapsed() - begun > timeout:
            left = f"{now.claims} steps still run on {node.name} after {timeout:g} s"
            raise OrchestratorError(f"{left}; it goes on draining")
        clock.pause(_POLL)
