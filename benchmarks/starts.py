"""D: what starting costs, for 3 steps and for 1,000. No worker is up, so nothing but the starts is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from sqlalchemy import event, func, select

from benchmarks.report import Figure, Scale
from benchmarks.stack import Stack
from orchestrator.clock import elapsed
from orchestrator.ledger.tables import metadata

#: Pairs of workflows: few steps and many, all in one segment, or each a message of its own.
PAIRS = (("three", "thousand"), ("three-apart", "thousand-apart"))
#: The longer start may take this many times the time of the shorter.
BOUND = 1.2


def costs(stack: Stack, scale: Scale, tick: Callable[[], object]) -> list[Figure]:
    """D: what differs in statements and rows, and the ratio of the times."""
    figures = []
    for few, many in PAIRS:
        for name in (few, many):
            stack.orchestrator.start(name)  # publishes the definition; later starts find it
        figures.append(_difference(stack, few, many))
        figures.append(_ratio(stack, scale, tick, few, many))
    return figures


def _difference(stack: Stack, few: str, many: str) -> Figure:
    """How many statements and rows are not the same in both starts."""
    shorter, longer = _written(stack, few), _written(stack, many)
    different = (shorter - longer) + (longer - shorter)
    return Figure(
        part="D",
        name=f"statements and rows in which starts of {few} and {many} differ",
        value=different.total(),
        unit="",
        bound=0,
        details={
            f"{many}: statements": sum(count for what, count in longer.items() if " " in what),
            f"{many}: rows": sum(count for what, count in longer.items() if " " not in what),
            "rows": {what: count for what, count in longer.items() if " " not in what},
        },
    )


def _written(stack: Stack, name: str) -> Counter[str]:
    """Statements by their text, and rows inserted by their table."""
    before = _rows(stack)
    with _statements(stack) as sent:
        stack.orchestrator.start(name)
    if not sent:
        raise RuntimeError("no statement was seen: starts go past SQLAlchemy's events now, count them otherwise")
    return Counter(sent) + (_rows(stack) - before)


def _rows(stack: Stack) -> Counter[str]:
    with stack.orchestrator.core.database.connect() as connection:
        counts = {table.name: select(func.count()).select_from(table) for table in metadata.sorted_tables}
        return Counter({name: connection.execute(count).scalar_one() for name, count in counts.items()})


@contextmanager
def _statements(stack: Stack) -> Iterator[list[str]]:
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    database = stack.orchestrator.core.database
    event.listen(database, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database, "before_cursor_execute", note)


def _ratio(stack: Stack, scale: Scale, tick: Callable[[], object], few: str, many: str) -> Figure:
    seconds: dict[str, list[float]] = {few: [], many: []}
    for turn in range(scale.starts):
        for name in (few, many) if turn % 2 else (many, few):
            begun = elapsed()
            stack.orchestrator.start(name)
            seconds[name].append(elapsed() - begun)
        tick()
    medians = {name: median(found) for name, found in seconds.items()}
    return Figure(
        part="D",
        name=f"time to start {many}, times that of {few}",
        value=medians[many] / medians[few],
        unit="x",
        bound=BOUND,
        details={f"{name}: ms": found * 1_000 for name, found in medians.items()},
    )
