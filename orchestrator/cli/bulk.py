"""One command to many executions: by their ids, or by filters, with a dry run, a question and a bar.

What is confirmed is what is done: the executions are read once, shown or counted, and then taken one by one. Each
command asks again, in the ledger, for whatever it depends on; an execution that has gone on meanwhile refuses it, and
that is told.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.application import Orchestrator
from orchestrator.cli.exits import FAILED
from orchestrator.cli.filters import Filters, filter_options
from orchestrator.cli.output import coloured, console, notes, progress_bar, shown_time, table, write_json
from orchestrator.cli.reach import ledger, opened
from orchestrator.config import load
from orchestrator.errors import ControlRefused, ExecutionNotFound, InvalidInput, LedgerBusy, PayloadError
from orchestrator.ledger.selection import selected

#: Answers that concern one execution; the others are tried all the same.
REFUSALS = (ControlRefused, ExecutionNotFound, InvalidInput, LedgerBusy, PayloadError)
#: A dry run shows people so many; --json has them all.
_MOST = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be done to each execution."""

    #: cancel, retry ...
    command: str
    carry_out: Callable[[Orchestrator, str], object]
    #: What can then be said of it: "is being cancelled".
    done: str = ""
    #: Or what `carry_out` gives, which is printed instead: "forked".
    gives: str | None = None
    #: The statuses in which executions are meant if filters name none.
    statuses: tuple[str, ...] = ()
    #: Those are meant that have a row for the step at this path, in one of these statuses.
    step: str | None = None
    step_statuses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Subjects:
    """Which executions are meant, and how sure the operator is."""

    ids: tuple[str, ...]
    filters: Filters
    everything: bool = False
    limit: int | None = None
    dry_run: bool = False
    yes: bool = False


@dataclass(kw_only=True, slots=True)
class _Tally:
    """What came of it so far."""

    done: int = 0
    refused: list[str] = field(default_factory=list)


def subjects(function: Callable[..., Any]) -> Callable[..., Any]:
    """EXECUTION... or filters, handed to the command as one argument, `subjects`."""

    @wraps(function)
    def command(
        *,
        executions: tuple[UUID, ...],
        filters: Filters,
        everything: bool,
        limit: int | None,
        dry_run: bool,
        yes: bool,
        **others: Any,
    ) -> Any:
        given = Subjects(
            ids=tuple(dict.fromkeys(str(execution) for execution in executions)),
            filters=filters,
            everything=everything,
            limit=limit,
            dry_run=dry_run,
            yes=yes,
        )
        _require_sense(given)
        return function(subjects=given, **others)

    made = filter_options(command)
    for option in (
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Show which executions are meant, and change nothing."),
        click.option("--limit", "-n", type=click.IntRange(min=1), help="Of those that are meant, the newest so many."),
        click.option("--all", "everything", is_flag=True, help="All to which the command applies."),
        click.argument("executions", metavar="[EXECUTION]...", nargs=-1, type=click.UUID),
    ):
        made = option(made)
    return made


def _require_sense(given: Subjects) -> None:
    if given.ids and (given.filters or given.everything or given.limit or given.dry_run):
        raise click.UsageError("give ids, or filters with --limit and --dry-run, not both")
    if given.everything and given.filters:
        raise click.UsageError("--all stands in the place of filters; give one or the other")
    if not (given.ids or given.filters or given.everything):
        raise click.UsageError("which executions? Give their ids, a filter such as --definition, or --all")
    if not (given.ids or given.dry_run or given.yes or sys.stdin.isatty()):
        raise click.UsageError("nobody can be asked here: look with --dry-run, then give --yes")


def execute(order: Order, given: Subjects, *, as_json: bool) -> None:
    """Carry out an order on all that are meant.

    Raises:
        SystemExit: with 1, if any execution refused or the operator did not confirm.
    """
    if given.ids:
        refused = _one_by_one(order, given.ids, as_json)
    else:
        rows = _meant(order, given)
        if given.dry_run:
            _show(order, rows, as_json)
            return
        if not rows:
            click.echo(f"nothing to {order.command}: no execution is like that", err=True)
            return
        if not given.yes and not click.confirm(f"{order.command} {_counted(rows)}?", err=True):
            click.echo("nothing was done", err=True)
            raise SystemExit(FAILED)
        refused = _many(order, [str(row["id"]) for row in rows], as_json)
    if refused:
        raise SystemExit(FAILED)


def _attempt(order: Order, found: Orchestrator, execution_id: str) -> tuple[object, str | None]:
    """Do something to one execution; what that gives, and why it refused, or None when it did not."""
    try:
        return order.carry_out(found, execution_id), None
    except ControlRefused as error:
        return None, error.reason
    except REFUSALS as error:
        return None, str(error)


def _meant(order: Order, given: Subjects) -> list[dict[str, Any]]:
    settings = load()
    selection = replace(
        given.filters.selection(settings.tenant, statuses=order.statuses, roots=True),
        step=order.step,
        step_statuses=order.step_statuses,
    )
    with ledger(settings) as connection:
        return list(selected(connection, selection, limit=given.limit))


def _one_by_one(order: Order, ids: Sequence[str], as_json: bool) -> int:
    """Each told as it is done; how many refused."""
    tally = _Tally()
    with opened() as found:
        _each(found, order, ids, tally, as_json=as_json, out=notes())
    return len(tally.refused)


def _many(order: Order, ids: Sequence[str], as_json: bool) -> int:
    """With a bar, refusals told as they come, and a sum in the end, however it ends; how many refused."""
    if as_json:
        return _one_by_one(order, ids, True)
    tally = _Tally()
    try:
        with opened() as found, progress_bar(notes()) as bar:
            _each(found, order, bar.track(ids, description=order.command), tally, as_json=None, out=bar.console)
    finally:
        left = len(ids) - tally.done - len(tally.refused)
        rest = f", {left:,} not tried" if left else ""
        click.echo(f"{order.command}: {tally.done:,} done, {len(tally.refused):,} refused{rest}")
    return len(tally.refused)


def _each(
    found: Orchestrator, order: Order, ids: Iterable[str], tally: _Tally, *, as_json: bool | None, out: Console
) -> None:
    """Args: as_json: None tells refusals only."""
    for execution_id in ids:
        result, reason = _attempt(order, found, execution_id)
        if reason is None:
            tally.done += 1
        else:
            tally.refused.append(execution_id)
        if as_json:
            more = {} if order.gives is None else {order.gives: result}
            write_json(_outcome(order.command, execution_id, reason, **more), line=True)
        elif reason is not None:
            out.print(f"[red]refused[/] {execution_id}: {escape(reason)}", soft_wrap=True)
        elif as_json is False:
            click.echo(f"{execution_id} {order.done}" if order.gives is None else result)


def _outcome(command: str, execution_id: str, reason: str | None, **more: Any) -> dict[str, Any]:
    """What --json says of one execution; `reason` is why it was not done."""
    return {"id": execution_id, "command": command, "done": reason is None, "reason": reason, **more}


def _show(order: Order, rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            about = {"definition": row["definition_name"], "status": row["status"], "created_at": row["created_at"]}
            write_json(_outcome(order.command, str(row["id"]), "dry run", **about), line=True)
        return
    drawn = table("id", "definition", "status", "started", "correlation id")
    for row in rows[:_MOST]:
        drawn.add_row(
            str(row["id"]),
            f"{row['definition_name']} v{row['definition_version']}",
            coloured(row["status"]),
            shown_time(row["created_at"]),
            escape(row["correlation_id"] or ""),
        )
    if rows:
        console().print(drawn)
    if len(rows) > _MOST:
        click.echo(f"and {len(rows) - _MOST:,} more; --json has them all")
    click.echo(f"dry run: would {order.command} {_counted(rows)}")


def _counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """3 executions (2 running, 1 paused)."""
    counts = Counter(row["status"] for row in rows)
    shares = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    noun = "execution" if len(rows) == 1 else "executions"
    return f"{len(rows):,} {noun}" + (f" ({shares})" if shares else "")
