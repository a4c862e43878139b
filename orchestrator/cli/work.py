"""migrate, worker, beat: the programs that a deployment consists of."""

from __future__ import annotations

import warnings
from typing import Any

import click
from celery import signals
from celery.utils.nodenames import default_nodename, host_format

from orchestrator.cli.given import duration
from orchestrator.cli.nodes import drain_command, list_nodes_command, resume_node_command
from orchestrator.cli.output import json_option, write_json
from orchestrator.cli.reach import consumed_queues, engine, orchestrator, require_servers
from orchestrator.ledger import migrate
from orchestrator.runtime.idle import end_when_idle
from orchestrator.telemetry import configure_logging

LEVELS = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)
LEDGER_SCHEDULER = "orchestrator.recovery.beat:LedgerScheduler"


def _app_option(function: Any) -> Any:
    return click.option("--app", "path", metavar="MODULE:ATTR", help="Your Celery application; ours by default.")(
        function
    )


def _log_options(function: Any) -> Any:
    function = click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)(
        function
    )
    return click.option("--log-level", type=LEVELS, default="INFO", show_default=True)(function)


@click.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if there is something to do.")
@json_option
def migrate_command(check: bool, as_json: bool) -> None:
    """Bring the database to this release's schema. Safe at any time and in any number at once."""
    with engine() as reached:
        before = migrate.current(reached)
        if check:
            migrate.require_migrated(reached)
            _tell_revision(before, before, as_json)
            return
        after = migrate.migrate(reached)
    _tell_revision(before, after, as_json)


def _tell_revision(before: str | None, after: str | None, as_json: bool) -> None:
    if as_json:
        write_json({"before": before, "revision": after})
    else:
        click.echo(f"at revision {after}" + (" already" if before == after else f", from {before or 'none'}"))


@click.group("worker", invoke_without_command=True)
@_app_option
@click.option("--queues", "-Q", metavar="A,B", help="Queues to consume; by default all that the definitions name.")
@click.option("--concurrency", "-c", type=click.IntRange(min=1), help="Pool size; by default the number of cores.")
@click.option("--pool", "-P", type=click.Choice(["prefork", "threads", "solo"]), default="prefork", show_default=True)
@click.option("--name", "-n", help="Name of the node, unique on its host; `celery` by default.")
@click.option(
    "--until-idle",
    is_flag=False,
    flag_value="5",
    callback=duration,
    metavar="DURATION",
    help="End, with 0, after so long without anything to do: ready, at work or due soon. 5 s without a value.",
)
@_log_options
@click.pass_context
def worker_group(
    context: click.Context,
    *,
    path: str | None,
    queues: str | None,
    concurrency: int | None,
    pool: str,
    name: str | None,
    until_idle: float | None,
    log_format: str,
    log_level: str,
) -> None:
    """Carry out steps and sweeps, in the foreground. SIGTERM lets running steps end first.

    With a command: show the nodes that there are, and have one take up no more.
    """
    if context.invoked_subcommand is not None:
        return
    found = orchestrator(path)
    require_servers(found)
    _log(log_format, log_level)
    consumed = [queue.strip() for queue in queues.split(",") if queue.strip()] if queues else consumed_queues(found)
    worker = found.app.Worker(
        hostname=host_format(default_nodename(name)),
        pool_cls=pool,
        concurrency=concurrency,
        queues=consumed,
        loglevel=log_level,
        quiet=True,
        # Events cost nearly half the throughput; the ledger's own history is better.
        task_events=False,
        # Both ask other workers for what the ledger knows, and wait for their answers.
        without_gossip=True,
        without_mingle=True,
    )
    if until_idle is not None:
        end_when_idle(found.core.database, consumed, until_idle)
    worker.start()
    raise SystemExit(worker.exitcode or 0)


for _command in (list_nodes_command, drain_command, resume_node_command):
    worker_group.add_command(_command)


@click.command("beat")
@_app_option
@_log_options
def beat_command(path: str | None, log_format: str, log_level: str) -> None:
    """Fire sweeps and schedules, in the foreground. Any number may run: each fire is made by one of them."""
    found = orchestrator(path)
    require_servers(found)
    _log(log_format, log_level)
    found.app.Beat(scheduler_cls=LEDGER_SCHEDULER, loglevel=log_level, quiet=True).run()


def _log(form: str, level: str) -> None:
    """Have this process, and the pool's children, log in our form; Celery leaves logging alone when somebody else
    has taken charge of it."""

    def configure(**_: Any) -> None:
        configure_logging(as_json=form == "json", level=level.upper())

    configure()
    signals.setup_logging.connect(configure, weak=False)
    # In a container everybody is root; without pickle there is nothing to warn of.
    warnings.filterwarnings("ignore", message=".*superuser privileges", category=RuntimeWarning)
