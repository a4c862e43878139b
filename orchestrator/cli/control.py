"""What operators do to executions by hand. Whether it may be done is decided in the ledger, by guarded statements."""

from __future__ import annotations

import pwd
import socket
from collections.abc import Callable
from functools import wraps
from os import getuid
from typing import Any

import click

from orchestrator.application import Orchestrator
from orchestrator.cli.bulk import Order, Subjects, execute, subjects
from orchestrator.cli.exits import EXIT_CODES
from orchestrator.cli.given import json_data
from orchestrator.cli.output import json_option
from orchestrator.model.state import FINAL_EXECUTIONS
from orchestrator.model.state import ExecutionStatus as X
from orchestrator.model.state import StepStatus as S


def operator() -> str:
    """Who is at the command line, as the operating system says: user@host."""
    try:
        user = pwd.getpwuid(getuid()).pw_name
    except KeyError:  # as in a container that runs under a number
        user = str(getuid())
    return f"{user}@{socket.gethostname()}"


def accountable(function: Callable[..., Any]) -> Callable[..., Any]:
    """--actor and --reason, handed to the command as keywords for the orchestrator, `said`."""

    @wraps(function)
    def command(*, actor: str | None, reason: str | None, **others: Any) -> Any:
        return function(said={"actor": actor or operator(), "reason": reason}, **others)

    made: Callable[..., Any] = click.option("--actor", help="Who says so, for the audit; by default user@host.")(
        command
    )
    return click.option("--reason", help="Why, for the audit.")(made)


def _changed_input(context: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Any]:
    """As a keyword, or none: null is an input too."""
    return {} if value is None else {"input": json_data(context, parameter, value)}


_children = click.option("--children/--no-children", default=True, help="Its children too; they are by default.")
_input = click.option(
    "--input",
    "-i",
    "changed",
    callback=_changed_input,
    metavar="JSON|@FILE|-",
    help="Another input; by default it stays as it was.",
)
_output = click.option(
    "--output", "-o", callback=json_data, metavar="JSON|@FILE|-", help="What the step gives; null by default."
)
_path = click.argument("path")
#: Steps that nobody works on.
_STAND_BY = (S.READY, S.WAITING, S.RETRYING)


@click.command("cancel", epilog=EXIT_CODES)
@subjects
@_children
@click.option("--compensate/--no-compensate", default=None, help="Undo what was done; by default as defined.")
@accountable
@json_option
def cancel_command(
    *, subjects: Subjects, children: bool, compensate: bool | None, said: dict[str, Any], as_json: bool
) -> None:
    """Cancel executions, by id or by filter: nothing more of them starts, and what was done is undone as defined."""

    def cancel(found: Orchestrator, execution_id: str) -> None:
        found.cancel(execution_id, children=children, compensate=compensate, **said)

    order = Order(
        command="cancel",
        done="is being cancelled",
        carry_out=cancel,
        statuses=(X.CREATED, X.RUNNING, X.PAUSING, X.PAUSED),
    )
    execute(order, subjects, as_json=as_json)


@click.command("pause", epilog=EXIT_CODES)
@subjects
@_children
@accountable
@json_option
def pause_command(*, subjects: Subjects, children: bool, said: dict[str, Any], as_json: bool) -> None:
    """Pause executions, by id or by filter: what runs comes to its end, nothing more starts until `resume`."""

    def pause(found: Orchestrator, execution_id: str) -> None:
        found.pause(execution_id, children=children, **said)

    order = Order(command="pause", done="starts nothing more", carry_out=pause, statuses=(X.RUNNING,))
    execute(order, subjects, as_json=as_json)


@click.command("resume", epilog=EXIT_CODES)
@subjects
@_children
@accountable
@json_option
def resume_command(*, subjects: Subjects, children: bool, said: dict[str, Any], as_json: bool) -> None:
    """Let paused executions go on, by id or by filter."""

    def resume(found: Orchestrator, execution_id: str) -> None:
        found.resume(execution_id, children=children, **said)

    order = Order(command="resume", done="goes on", carry_out=resume, statuses=(X.PAUSING, X.PAUSED))
    execute(order, subjects, as_json=as_json)


@click.command("retry", epilog=EXIT_CODES)
@subjects
@_input
@accountable
@json_option
def retry_command(*, subjects: Subjects, changed: dict[str, Any], said: dict[str, Any], as_json: bool) -> None:
    """Let ended executions go on from where they failed, by id or by filter; what is done stays done.

    Of an execution that has not ended, steps that wait for their next attempt make it now.
    """

    def retry(found: Orchestrator, execution_id: str) -> None:
        found.retry(execution_id, **changed, **said)

    order = Order(command="retry", done="goes on", carry_out=retry, statuses=(X.FAILED, X.TIMED_OUT, X.CANCELLED))
    execute(order, subjects, as_json=as_json)


@click.command("compensate", epilog=EXIT_CODES)
@subjects
@click.option("--to", metavar="PATH", help="Undo only what was done after this step.")
@accountable
@json_option
def compensate_command(*, subjects: Subjects, to: str | None, said: dict[str, Any], as_json: bool) -> None:
    """Undo what ended executions have done, by id or by filter. Succeeded ones are meant only if --status says so."""

    def compensate(found: Orchestrator, execution_id: str) -> None:
        found.compensate(execution_id, to=to, **said)

    order = Order(
        command="compensate",
        done="is being compensated",
        carry_out=compensate,
        statuses=(X.FAILED, X.TIMED_OUT, X.CANCELLED, X.COMPENSATION_FAILED),
    )
    execute(order, subjects, as_json=as_json)


@click.command("skip", epilog=EXIT_CODES)
@subjects
@_path
@_output
@accountable
@json_option
def skip_command(*, subjects: Subjects, path: str, output: Any, said: dict[str, Any], as_json: bool) -> None:
    """Pass over the step at PATH as if it had succeeded, by id or by filter: one that has failed, or is not running."""

    def skip(found: Orchestrator, execution_id: str) -> None:
        found.skip(execution_id, path, output=output, **said)

    order = Order(
        command="skip",
        done="goes on",
        carry_out=skip,
        statuses=(X.RUNNING, X.PAUSING, X.PAUSED, X.FAILED, X.TIMED_OUT, X.CANCELLED),
        step=path,
        step_statuses=(*_STAND_BY, S.FAILED, S.TIMED_OUT, S.CANCELLED),
    )
    execute(order, subjects, as_json=as_json)


@click.command("complete", epilog=EXIT_CODES)
@subjects
@_path
@_output
@accountable
@json_option
def complete_command(*, subjects: Subjects, path: str, output: Any, said: dict[str, Any], as_json: bool) -> None:
    """Complete the step at PATH by hand, which waits, by id or by filter."""

    def complete(found: Orchestrator, execution_id: str) -> None:
        found.complete(execution_id, path, output=output, **said)

    order = Order(
        command="complete",
        done="goes on",
        carry_out=complete,
        statuses=(X.RUNNING, X.PAUSING, X.PAUSED),
        step=path,
        step_statuses=_STAND_BY,
    )
    execute(order, subjects, as_json=as_json)


@click.command("fork", epilog=EXIT_CODES)
@subjects
@_path
@_input
@accountable
@json_option
def fork_command(
    *, subjects: Subjects, path: str, changed: dict[str, Any], said: dict[str, Any], as_json: bool
) -> None:
    """Start new executions from the step at PATH of ended ones, by id or by filter; what came before is taken over.

    Prints the new executions' ids. Of those that a filter finds, the ones are meant that have come to the step.
    """

    def fork(found: Orchestrator, execution_id: str) -> str:
        return found.fork(execution_id, path, **changed, **said).id

    order = Order(
        command="fork",
        gives="forked",
        carry_out=fork,
        statuses=tuple(sorted(FINAL_EXECUTIONS)),
        step=path,
        step_statuses=tuple(S),
    )
    execute(order, subjects, as_json=as_json)
