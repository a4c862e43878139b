"""The group of all commands, and what an error becomes: one message and an exit code, never a traceback."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from sqlalchemy.exc import DBAPIError

from orchestrator.cli.attempts import attempts_command
from orchestrator.cli.audit import audit_command
from orchestrator.cli.compile import compile_command
from orchestrator.cli.connectors import connectors_group, secrets_group
from orchestrator.cli.control import (
    cancel_command,
    compensate_command,
    complete_command,
    fork_command,
    pause_command,
    resume_command,
    retry_command,
    skip_command,
)
from orchestrator.cli.definitions import definitions_group
from orchestrator.cli.demo import demo_command
from orchestrator.cli.dev import dev_command
from orchestrator.cli.events import events_command
from orchestrator.cli.examples import examples_command
from orchestrator.cli.executions import list_command, show_command
from orchestrator.cli.exits import EXIT_CODES, FAILED, INTERRUPTED
from orchestrator.cli.explain import explain_command
from orchestrator.cli.health import health_group
from orchestrator.cli.incidents import incidents_group
from orchestrator.cli.logs import logs_command
from orchestrator.cli.maintenance import maintenance_group
from orchestrator.cli.new import new_command
from orchestrator.cli.purge import purge_command
from orchestrator.cli.replay import replay_command
from orchestrator.cli.restored import restored_command
from orchestrator.cli.schema import schema_command
from orchestrator.cli.send import emit_command, send_command, signal_command
from orchestrator.cli.start import start_command
from orchestrator.cli.verify import verify_command
from orchestrator.cli.work import beat_command, migrate_command, worker_group
from orchestrator.errors import DatabaseUnavailable, OrchestratorError, SchemaNotMigrated
from orchestrator.ledger import database


@click.group(
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="orchestrator")
def cli() -> None:
    """Durable workflows for Celery: a PostgreSQL ledger is the truth, chains and chords are the plan.

    Settings are read from ORCHESTRATOR_* variables: ORCHESTRATOR_DATABASE_URL, ORCHESTRATOR_BROKER_URL,
    ORCHESTRATOR_MODULES (import names of your definitions) and others. `orchestrator demo` needs none of them.
    """
    # As Celery, uvicorn and flask do: modules beside the working folder are found without installation.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())


for _command in (
    dev_command,
    demo_command,
    examples_command,
    new_command,
    migrate_command,
    worker_group,
    beat_command,
    start_command,
    signal_command,
    send_command,
    emit_command,
    list_command,
    show_command,
    events_command,
    cancel_command,
    pause_command,
    resume_command,
    retry_command,
    skip_command,
    complete_command,
    compensate_command,
    fork_command,
    maintenance_group,
    audit_command,
    logs_command,
    attempts_command,
    explain_command,
    incidents_group,
    compile_command,
    definitions_group,
    schema_command,
    verify_command,
    replay_command,
    purge_command,
    restored_command,
    health_group,
    connectors_group,
    secrets_group,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Carry out a command line, by default the process's own, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot draw bars shows question marks instead
    sys.exit(call(arguments))


def call(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line; the exit code. Errors are told on standard error, in one message each."""
    try:
        code = cli.main(args=arguments, prog_name="orchestrator", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit as end:
        code = end.code
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except OrchestratorError as error:
        return _tell(error)
    except DBAPIError as error:
        return _tell(_explained(error))
    return code if isinstance(code, int) else 0


def _explained(error: DBAPIError) -> Exception:
    if database.sqlstate(error) in database.NOT_MIGRATED:
        return SchemaNotMigrated()
    return DatabaseUnavailable() if database.is_lost(error) else OrchestratorError(str(error.orig).strip())


def _tell(error: Exception) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
    return FAILED
