"""health: whether a worker, a beat, the ledger or the broker is in order, as an exit code; for probes and people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import Connection

from orchestrator.cli.exits import FAILED
from orchestrator.cli.output import json_option, write_json
from orchestrator.cli.reach import engine, opened
from orchestrator.config import Settings, load
from orchestrator.ledger import migrate, nodes
from orchestrator.recovery.sweeps import SWEEPS

#: A beat is in order if each sweep was fired within so many of its intervals, or so many seconds.
LATE, LATE_AT_LEAST = 5, 15.0


@click.group("health")
def health_group() -> None:
    """Exit with 0 if something is in order, with 1 if it is not, and say why. Each answers within a few seconds."""


@health_group.command("worker")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--live", is_flag=True, help="Only whether it is heard, not whether it takes up steps.")
@json_option
def worker_command(name: str | None, live: bool, as_json: bool) -> None:
    """Whether a worker node is heard and takes up steps: the one of that name, or any.

    NAME is a name as `orchestrator worker list` shows it, or its part before the @ with this host behind it.
    """
    _tell(as_json, lambda connection, settings: _worker(connection, settings, name, live=live))


@health_group.command("beat")
@json_option
def beat_command(as_json: bool) -> None:
    """Whether some beat fires the sweeps that are switched on."""
    _tell(as_json, _beat)


@health_group.command("ledger")
@json_option
def ledger_command(as_json: bool) -> None:
    """Whether the database answers, has this release's schema, and takes writes."""
    with engine() as reached:
        migrate.require_migrated(reached)
    _tell(as_json, _ledger)


@health_group.command("broker")
@json_option
def broker_command(as_json: bool) -> None:
    """Whether the broker answers."""
    with opened() as found:
        found.core.publisher.ping()
    _say(as_json, True, "the broker answers")


def _worker(connection: Connection, settings: Settings, name: str | None, *, live: bool) -> tuple[bool, str]:
    found = [
        node
        for node in nodes.nodes(connection, settings.tenant, settings.dead_after)
        if name is None or name in {node.name, node.name.partition("@")[0]}
    ]
    who = f"worker {name}" if name else "any worker"
    living = [node for node in found if not node.dead]
    if not living:
        silent = min((node.silent for node in found), default=None)
        heard = "was never heard" if silent is None else f"has not been heard for {silent:.0f} s"
        return False, f"{who} {heard}"
    ready = [node for node in living if node.state == "living" and node.queues]
    if not live and not ready:
        return False, f"{who} drains, and takes up no step"
    node = (ready or living)[0]
    consumes = "" if live else f", and consumes {', '.join(node.queues)}"
    return True, f"{node.name} was heard {node.silent:.1f} s ago{consumes}"


def _beat(connection: Connection, settings: Settings) -> tuple[bool, str]:
    wanted = {f"orchestrator.{sweep.name}": sweep.interval(settings) for sweep in SWEEPS.values()}
    fired = nodes.fired(connection, [name for name, interval in wanted.items() if interval])
    late = []
    for name, interval in wanted.items():
        allowed = max(interval * LATE, LATE_AT_LEAST)
        if interval and fired.get(name, allowed + 1) > allowed:
            ago = f"{fired[name]:.0f} s ago" if name in fired else "not within the hour"
            late.append(f"{name} was last fired {ago}")
    if late:
        return False, f"no beat fires: {'; '.join(late)}"
    return True, f"{len(fired)} sweeps are fired"


def _ledger(connection: Connection, _: Settings) -> tuple[bool, str]:
    if not nodes.takes_writes(connection):
        return False, "the database takes no writes: it is a standby, or was made read-only"
    return True, "the database answers, is migrated, and takes writes"


def _tell(as_json: bool, ask: Callable[[Connection, Settings], tuple[bool, str]]) -> None:
    settings = load()
    with engine(settings) as reached, reached.connect() as connection:
        healthy, reason = ask(connection, settings)
    _say(as_json, healthy, reason)


def _say(as_json: bool, healthy: bool, reason: str) -> None:
    told: dict[str, Any] = {"healthy": healthy, "reason": reason}
    if as_json:
        write_json(told)
    else:
        click.echo(reason, err=not healthy)
    if not healthy:
        raise SystemExit(FAILED)
