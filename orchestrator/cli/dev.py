"""dev: everything that a developer needs, in one terminal."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from orchestrator import clock
from orchestrator.authoring.discovery import Catalog
from orchestrator.authoring.example import example
from orchestrator.cli.output import notes
from orchestrator.cli.reach import catalog, engine
from orchestrator.cli.stack import Addresses, Stack, default_modules, default_pools, servers
from orchestrator.config import Settings, load
from orchestrator.embedded import Processes, StartFailed
from orchestrator.ledger import migrate
from orchestrator.model.definition import Definition

#: Data, logs and addresses, kept from one start to the next.
ROOT = Path(".orchestrator/dev")
_POLL = 0.5


@click.command("dev")
def dev_command() -> None:
    """Run servers, two worker pools and a beat in the foreground; Ctrl-C stops everything.

    PostgreSQL and a broker are embedded, their data kept under .orchestrator/dev, unless ORCHESTRATOR_DATABASE_URL and
    ORCHESTRATOR_BROKER_URL name others. ORCHESTRATOR_MODULES is `definitions` by default, if there is such a module.
    Changed definitions are published under the next version.
    """
    settings = load()
    modules = settings.modules or default_modules()
    out = notes()
    with servers(settings, ROOT) as addresses, Processes(ROOT) as processes:
        environment = addresses.environment(modules) | {"ORCHESTRATOR_DEV_MODE": "1"}
        stack = Stack(processes, environment)
        _start(stack, _settings(addresses, modules))
        found = catalog(settings.model_copy(update={"modules": modules}))
        _tell(out, environment, found)
        try:
            _watch(processes, out)
        except KeyboardInterrupt:
            out.print("\nstopping everything")


def _settings(addresses: Addresses, modules: Sequence[str]) -> Settings:
    return load(database_url=addresses.database_url, broker_url=addresses.broker_url, modules=tuple(modules))


def _start(stack: Stack, settings: Settings) -> None:
    with engine(settings) as reached:
        migrate.migrate(reached)
        workers = [stack.start_worker(name, pool) for name, pool in default_pools().items()]
        stack.start_beat("beat")
        with reached.connect() as connection:
            stack.await_workers(connection, workers)


def _tell(out: Console, environment: Mapping[str, str], found: Catalog) -> None:
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    path = ROOT / "env"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(lines)
    for problem in found.problems:
        out.print(f"[red]{problem}[/]", markup=False)
    names = ", ".join(f"{definition.name} v{definition.version}" for definition in found.definitions)
    out.print("[bold green]ready[/]: servers, worker pools and a beat are up; Ctrl-C stops them")
    out.print(f"definitions: {names or 'none; name your modules in ORCHESTRATOR_MODULES'}")
    out.print(f"logs: {ROOT / 'logs'}")
    out.print(f"\nin another terminal ([bold]. {path}[/] does the same):\n")
    out.print(lines, markup=False, soft_wrap=True)
    if found.definitions:
        # A machine would wait for events, and has no steps of its own.
        first = min(found.definitions, key=lambda definition: (definition.machine is not None, len(definition.steps)))
        out.print(f"    {_first_command(first)}\n", markup=False, soft_wrap=True)


def _first_command(definition: Definition) -> str:
    schema = definition.input_schema
    given = f" --input {shlex.quote(json.dumps(example(schema)))}" if schema else ""
    return f"orchestrator start {definition.name}{given} --wait"


def _watch(processes: Processes, out: Console) -> None:
    """Tell of each program that ends, until none is left; StartFailed then."""
    told: set[str] = set()
    total = len(default_pools()) + 1
    while True:
        for name in processes.poll():
            if name not in told:
                told.add(name)
                out.print(f"[red]{name} has ended; its log ends with:[/]")
                out.print(processes.log_tail(name), markup=False, soft_wrap=True)
                if len(told) == total:
                    raise StartFailed("every program", "has ended", processes.log_tail(name))
        clock.pause(_POLL)
