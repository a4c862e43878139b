"""What the code says of itself: log records with the attempt they belong to. Exporters subscribe; none is here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any


@dataclass(kw_only=True, slots=True)
class AttemptScope:
    """An attempt that goes on."""

    #: What every record within it carries: execution_id, path, attempt, correlation_id.
    fields: dict[str, Any]
    #: Numbers the records that are kept of it.
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    #: Called with it when it has ended.
    at_end: Callable[[AttemptScope], None] | None = None


_attempt: ContextVar[AttemptScope | None] = ContextVar("orchestrator_attempt", default=None)

#: Not fields: the record's own parts, and the copy of a task's message that Celery adds to its lines.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}


@contextmanager
def attempt_fields(**fields: Any) -> Iterator[None]:
    """Within the block, every log record of this thread carries these fields."""
    scope = AttemptScope(fields=fields)
    token = _attempt.set(scope)
    try:
        yield
    finally:
        _attempt.reset(token)
        if scope.at_end is not None:
            scope.at_end(scope)


def present_attempt() -> AttemptScope | None:
    """The attempt that this thread, or this coroutine, works on."""
    return _attempt.get()


class AttemptFilter(logging.Filter):
    """Adds the present attempt's fields to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        scope = _attempt.get()
        for name, value in scope.fields.items() if scope is not None else ():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        data |= fields_of(record)
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str)


class TextFormatter(logging.Formatter):
    """A line for people, the fields behind the message as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if fields := fields_of(record):
            line += "  " + " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as extra=, and the attempt's fields."""
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith("_") and value is not None
    }


def configure_logging(*, as_json: bool, level: str = "INFO") -> None:
    """Send this process's logs to standard error in one of the two forms."""
    handler = logging.StreamHandler()
    handler.addFilter(AttemptFilter())
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
