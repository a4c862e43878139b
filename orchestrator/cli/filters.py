"""Options that say which executions are meant, the same for lists and for commands to many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from orchestrator.cli.given import duration, labelled
from orchestrator.ledger.selection import Selection
from orchestrator.model.state import ExecutionStatus

_OPTIONS = (
    click.option("--definition", "-d", metavar="NAME", help="Only of this definition."),
    click.option(
        "--status",
        "-s",
        "statuses",
        multiple=True,
        type=click.Choice(sorted(status.value for status in ExecutionStatus)),
        help="Only in this status; may be repeated.",
    ),
    click.option(
        "--label",
        "-l",
        "labels",
        callback=labelled,
        metavar="K=V",
        multiple=True,
        help="Only with this label; of several, all.",
    ),
    click.option("--correlation-id", metavar="ID", help="Only with this one."),
    click.option("--older-than", callback=duration, metavar="DURATION", help="Only started longer ago: 90, 1h30m, 7d."),
    click.option("--newer-than", callback=duration, metavar="DURATION", help="Only started since then."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """What was given of the options; true if any was."""

    definition: str | None
    statuses: tuple[str, ...]
    labels: dict[str, str]
    correlation_id: str | None
    older_than: float | None
    newer_than: float | None

    def __bool__(self) -> bool:
        named = (self.definition, self.correlation_id, self.older_than, self.newer_than)
        return bool(self.statuses or self.labels) or any(value is not None for value in named)

    def selection(self, tenant: str, *, statuses: tuple[str, ...] = (), roots: bool = False) -> Selection:
        """What the ledger is asked for.

        Args:
            statuses: which count if none was given.
            roots: whether executions that others wait for are left out.
        """
        return Selection(
            tenant=tenant,
            name=self.definition,
            statuses=self.statuses or statuses,
            labels=self.labels,
            correlation=self.correlation_id,
            older_than=self.older_than,
            newer_than=self.newer_than,
            roots=roots,
        )


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options, handed to the command as one argument, `filters`."""

    @wraps(function)
    def command(
        *,
        definition: str | None,
        statuses: tuple[str, ...],
        labels: dict[str, str],
        correlation_id: str | None,
        older_than: float | None,
        newer_than: float | None,
        **others: Any,
    ) -> Any:
        filters = Filters(
            definition=definition,
            statuses=statuses,
            labels=labels,
            correlation_id=correlation_id,
            older_than=older_than,
            newer_than=newer_than,
        )
        return function(filters=filters, **others)

    made: Callable[..., Any] = command
    for option in reversed(_OPTIONS):
        made = option(made)
    return made
