"""Keeps what attempts log: a handler that buffers in memory, and a thread that writes batches to the ledger.

An activity never waits for it. While the database is away the buffer fills, and what no longer fits is dropped and
counted; gaps in the numbers of an attempt's records show where.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import threading
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from orchestrator import clock
from orchestrator.config import Settings
from orchestrator.ledger import attempt_logs, database
from orchestrator.redaction import redact
from orchestrator.telemetry import AttemptScope, fields_of, present_attempt

logger = logging.getLogger("orchestrator.logs")

#: Records are written when so many are there, or so many seconds after the first.
BATCH, DELAY = 200, 0.5
#: Most records that wait to be written; more are dropped.
BUFFER = 10_000
#: Bytes of a message, and of the fields' texts.
LONGEST = 4096
#: Seconds that the end of a process waits for its last records.
FLUSH_PATIENCE = 3.0

#: Facts of the attempt, which the record's own columns have.
_FACTS = frozenset(("tenant", "definition", "definition_version", "execution_id", "path", "step_path"))
_FACTS |= frozenset(("attempt", "correlation_id", "undo"))
#: What activities say through their context.
_ACTIVITY = "orchestrator.activity"

Row = dict[str, Any]


class AttemptLogs(logging.Handler):
    """Keeps the records of attempts. Does nothing in a process that has not installed it."""

    def __init__(self, ledger: Engine, settings: Settings) -> None:
        super().__init__(logging.getLevelName(settings.log_level))
        self._ledger, self._limit = ledger, settings.log_limit
        self._pid = 0
        # Its `put` takes no lock that an interruption could leave behind.
        self._waiting: queue.SimpleQueue[Row | threading.Event] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._dropped = 0

    def install(self) -> None:
        """Keep the records of this process from now on."""
        self._pid = os.getpid()
        self._waiting, self._writer, self._dropped = queue.SimpleQueue(), None, 0
        # Celery's logger for tasks hands nothing on to the root.
        for name in (None, "celery.task"):
            found = logging.getLogger(name)
            if self not in found.handlers and (name is None or not found.propagate):
                found.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record of the attempt that this thread, or coroutine, works on."""
        scope = present_attempt()
        if scope is None or os.getpid() != self._pid or not _is_kept(record.name) or record.levelno < self.level:
            return
        try:
            self._keep(scope, record)
        except Exception:
            self.handleError(record)

    def _keep(self, scope: AttemptScope, record: logging.LogRecord) -> None:
        number = next(scope.numbers)
        if number > self._limit:
            scope.at_end = self._tell_limit
            return
        self._put(_row(scope, number, record))

    def _tell_limit(self, scope: AttemptScope) -> None:
        """The last record of an attempt that has said too much."""
        dropped = next(scope.numbers) - 1 - self._limit
        message = f"{dropped} more records were dropped: an attempt may keep {self._limit}"
        self._put(
            _row(scope, self._limit + 1, logger.makeRecord(logger.name, logging.WARNING, "", 0, message, (), None))
        )

    def _put(self, row: Row) -> None:
        if self._waiting.qsize() >= BUFFER:
            self._dropped += 1
            return
        self._waiting.put(row)
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="orchestrator-logs", daemon=True)
            self._writer.start()

    def flush(self) -> None:
        """Write what there is, if the database answers soon."""
        if self._writer is not None and os.getpid() == self._pid:
            written = threading.Event()
            self._waiting.put(written)
            written.wait(FLUSH_PATIENCE)

    # The thread.

    def _write_on(self) -> None:
        # Signals are the main thread's.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            rows, flushed = self._collected()
            if rows:
                self._write(rows)
            if flushed is not None:
                flushed.set()

    def _collected(self) -> tuple[list[Row], threading.Event | None]:
        """A batch, and who waits for it to be written."""
        rows: list[Row] = []
        found = self._waiting.get()
        until = clock.elapsed() + DELAY
        while not isinstance(found, threading.Event):
            rows.append(found)
            if len(rows) >= BATCH:
                return rows, None
            try:
                found = self._waiting.get(timeout=max(until - clock.elapsed(), 0.0))
            except queue.Empty:
                return rows, None
        return rows, found

    def _write(self, rows: list[Row]) -> None:
        try:
            self._send(rows)
        except Exception as error:
            if len(rows) > 1:
                # One that the database will not have shall not take the others with it.
                for row in rows:
                    self._write([row])
                return
            self._dropped += 1
            logger.warning("a log record cannot be kept", extra={"reason": str(error)})
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            logger.warning("log records of attempts were dropped", extra={"records": dropped})

    def _send(self, rows: list[Row]) -> None:
        def send() -> None:
            with self._ledger.connect() as connection:
                attempt_logs.keep(connection, rows)

        database.persist(send)


def _is_kept(name: str) -> bool:
    """The orchestrator's own loggers speak of the engine, not of the activity."""
    ours = name == "orchestrator" or name.startswith("orchestrator.")
    return not ours or name == _ACTIVITY or name.startswith(f"{_ACTIVITY}.")


def _row(scope: AttemptScope, number: int, record: logging.LogRecord) -> Row:
    about: Mapping[str, Any] = scope.fields
    return {
        "execution_id": about["execution_id"],
        "path": about["path"],
        "attempt": about["attempt"],
        "number": number,
        "at": record.created,
        "level": record.levelno,
        "logger": _clean(record.name),
        "message": _clean(record.getMessage()),
        "fields": _fields(record),
    }


def _fields(record: logging.LogRecord) -> dict[str, Any] | None:
    found = {name: value for name, value in fields_of(record).items() if name not in _FACTS}
    if record.exc_info and record.exc_info[0] is not None:
        found["exception"] = logging.Formatter().formatException(record.exc_info)
    if not found:
        return None
    plain: dict[str, Any] = _plain(found)
    if len(json.dumps(plain)) > 2 * LONGEST:
        plain = {_clean(name)[:100]: _clean(str(value))[:500] for name, value in list(found.items())[:20]}
    return plain


def _plain(value: Any) -> Any:
    """As JSON data that the ledger takes: whatever is none, as text."""
    if isinstance(value, dict):
        return {_clean(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    return _clean(str(value))


def _clean(text: str) -> str:
    """Without secrets, cut, and such as PostgreSQL takes."""
    return redact(text).replace("\0", "\ufffd").encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
