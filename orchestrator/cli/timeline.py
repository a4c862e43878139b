"""An execution's history as bars, one line a step: what waited, what ran, how each attempt ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from orchestrator.cli.output import span as shown
from orchestrator.model.identity import undone_path

#: What a step is after an event, until its next one. Any other event of a step ends it.
_BEGINS = {
    "step_blocked": "blocked",
    "step_ready": "ready",
    "step_released": "ready",
    "step_waiting": "waiting",
    "step_retrying": "retrying",
    "step_started": "running",
}
_ENDS = {"step_succeeded", "step_failed", "step_cancelled", "step_timed_out", "step_skipped"}

#: state -> the character that draws it.
_DRAWN = {"blocked": "·", "ready": "░", "waiting": "▒", "retrying": "╌", "running": "█"}
#: how an attempt ended -> the colour that it is drawn in.
_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "retrying": "yellow",
    "released": "yellow",
    "cancelled": "yellow",
}
LEGEND = "█ runs  ░ ready  · blocked  ▒ waits  ╌ until the next attempt  ↩ undoes a step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A time that a step spent in one state."""

    #: blocked, ready, waiting, retrying or running
    state: str
    begin: datetime
    end: datetime
    #: The kind of the event that ended it, without its `step_`; empty while it lasts.
    ended: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One step's line."""

    path: str
    spans: tuple[Span, ...]

    @property
    def ran(self) -> float:
        """Seconds that attempts took, all together."""
        return sum(span.seconds for span in self.spans if span.state == "running")

    @property
    def waited(self) -> float:
        """Seconds that it stood ready, or between attempts, for somebody to take it up."""
        return sum(span.seconds for span in self.spans if span.state in ("ready", "retrying", "waiting"))

    @property
    def attempts(self) -> int:
        """How many attempts were begun."""
        return sum(span.state == "running" for span in self.spans)


def bars(events: Sequence[Mapping[str, Any]], now: datetime) -> list[Bar]:
    """The history as one bar for each step, in the order in which the steps appeared.

    Args:
        events: an execution's events, oldest first.
        now: the database's time, at which what still lasts is cut off.
    """
    by_path: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event["path"] is not None and (event["type"] in _BEGINS or event["type"] in _ENDS):
            by_path.setdefault(event["path"], []).append(event)
    return [Bar(path=path, spans=_spans(found, now)) for path, found in by_path.items()]


def _spans(events: Sequence[Mapping[str, Any]], now: datetime) -> tuple[Span, ...]:
    found = []
    for event, following in zip(events, [*events[1:], None], strict=True):
        state = _BEGINS.get(event["type"])
        if state is not None:
            # Two clocks' readings may cross by a hair; nothing lasts less than no time.
            end = max(event["at"], following["at"] if following else now)
            ended = following["type"].removeprefix("step_") if following else ""
            found.append(Span(state=state, begin=event["at"], end=end, ended=ended))
    return tuple(found)


def draw(drawn: Sequence[Bar], begin: datetime, end: datetime, width: int) -> list[Text]:
    """One text for each bar, between begin and end over so many columns, the time it ran behind it."""
    total = max((end - begin).total_seconds(), 0.001)
    names = [name(bar.path) for bar in drawn]
    margin = max(map(len, names), default=0)
    return [
        Text.assemble(
            (f"{label:<{margin}} ", "magenta" if undone_path(bar.path) else ""),
            _line(bar, begin, total, width),
            f" {shown(bar.ran)}" if bar.attempts else "",
            (f" ×{bar.attempts}" if bar.attempts > 1 else "", "yellow"),  # noqa: RUF001 - times, not the letter
        )
        for label, bar in zip(names, drawn, strict=True)
    ]


def name(path: str) -> str:
    """A path as people read it: compensations are marked."""
    undone = undone_path(path)
    return path if undone is None else f"↩ {undone}"


def axis(begin: datetime, end: datetime, margin: int, width: int) -> Text:
    """The scale above the bars."""
    last = shown((end - begin).total_seconds())
    return Text(f"{'':<{margin}} 0{last:>{width - 1}}", style="dim")


def _line(bar: Bar, begin: datetime, total: float, width: int) -> Text:
    """Every span has a column at least; where several meet, what ran is shown."""
    cells = [(" ", "")] * width
    for span in sorted(bar.spans, key=lambda span: span.state == "running"):
        first = min(width - 1, int((span.begin - begin).total_seconds() / total * width))
        last = min(width, max(first + 1, round((span.end - begin).total_seconds() / total * width)))
        style = _COLOURS.get(span.ended, "cyan") if span.state == "running" else "dim"
        cells[first:last] = [(_DRAWN[span.state], style)] * (last - first)
    return Text.assemble(*cells)
