"""Keeps secrets out of what is written down: every secret that this process has read is masked wherever it turns up.

`remember` is called by whoever resolves a secret, and a `Masking` holds one for as long as an attempt lasts. Then
`redact` masks it in text (errors, tracebacks), `redact_json` in what goes into the ledger, and a filter on every
log handler in the log.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
#: A shorter secret would mask half of every text; whoever resolves secrets refuses it.
SHORTEST = 4
#: In data, where masking changes what later steps work with, a secret must be longer to be taken for one.
SHORTEST_IN_DATA = 8

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _Known:
    """What is masked, longest first, so that no part of a secret is left beside its mask."""

    texts: tuple[str, ...] = ()
    #: Those that are masked for ever, and how many ask for each of the others.
    kept: set[str] = set()  # noqa: RUF012 - one for the process
    passing: Counter[str] = Counter()  # noqa: RUF012
    lock = threading.Lock()


class Redacted(Exception):
    """Stands in a log record for an exception whose traceback held a secret; its message is the masked traceback."""


def remember(secret: str) -> None:
    """Mask a secret from now on, in the forms that it is seen in: as it is, escaped, quoted, in base64, and of a URL
    the password and the path. Also sees that every log handler there is by now masks."""
    found = {form for form in _forms(secret) if len(form) >= SHORTEST}
    with _Known.lock:
        _Known.kept |= found
        _Known.texts = _longest_first()
    _protect_logs()


class Masking:
    """Masks what it is told of until it is closed, as `remember` does for ever: an attempt's own secrets."""

    def __init__(self) -> None:
        self._forms: set[str] = set()

    def add(self, secret: str) -> None:
        """Mask a secret from now on."""
        new = {form for form in _forms(secret) if len(form) >= SHORTEST} - self._forms
        self._forms |= new
        with _Known.lock:
            _Known.passing.update(new)
            _Known.texts = _longest_first()
        _protect_logs()

    def found_in(self, text: str) -> bool:
        """Whether a text holds one of its secrets, of 8 characters or more."""
        return any(form in text for form in self._forms if len(form) >= SHORTEST_IN_DATA)

    def close(self) -> None:
        """Mask them no longer, unless others ask for it."""
        with _Known.lock:
            _Known.passing -= Counter(self._forms)
            _Known.texts = _longest_first()
        self._forms = set()


def redact(text: str) -> str:
    """The text with every known secret masked."""
    for known in _Known.texts:
        if known in text:
            text = text.replace(known, MASK)
    return text


def redact_json(text: str) -> str:
    """JSON text with every known secret of 8 characters or more masked in its strings; numbers stay as they are."""
    known = _long()
    if not any(each in text for each in known):
        return text
    return json.dumps(_masked(json.loads(text), known), ensure_ascii=False)


class RedactionFilter(logging.Filter):
    """Masks secrets in a record: message, fields and traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: a record is changed, never dropped."""
        if not _Known.texts:
            return True
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            return True  # logging itself reports arguments that do not fit
        if (masked := redact(message)) != message:
            record.msg, record.args = masked, None
        for name, value in list(vars(record).items()):
            if name not in _STANDARD and (masked := redact(shown := str(value))) != shown:
                setattr(record, name, masked)
        if record.exc_info and record.exc_info[0] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            if (masked := redact(trace)) != trace:
                record.exc_info, record.exc_text = (Redacted, Redacted(masked), None), None
        return True


_FILTER = RedactionFilter()


def _protect_logs() -> None:
    """On handlers and not on loggers: a logger's filters do not see the records of loggers below it."""
    loggers = [logging.getLogger(), *list(logging.Logger.manager.loggerDict.values())]
    handlers = [handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers]
    if logging.lastResort is not None:
        handlers.append(logging.lastResort)
    for handler in handlers:
        if _FILTER not in handler.filters:
            handler.addFilter(_FILTER)


def _longest_first() -> tuple[str, ...]:
    """What is masked by now; the caller holds the lock."""
    return tuple(sorted({*_Known.kept, *_Known.passing}, key=len, reverse=True))


def _forms(secret: str) -> Iterator[str]:
    yield from _spellings(secret)
    if "://" not in secret:
        return
    url = urlsplit(secret)
    if url.password:
        yield from _spellings(url.password)
        yield from _spellings(unquote(url.password))
    if len(url.path) >= SHORTEST_IN_DATA:
        yield url.path


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield base64.b64encode(secret.encode()).decode()


def _long() -> list[str]:
    return [known for known in _Known.texts if len(known) >= SHORTEST_IN_DATA]


def _masked(value: Any, known: list[str]) -> Any:
    if isinstance(value, str):
        for each in known:
            value = value.replace(each, MASK)
        return value
    if isinstance(value, list):
        return [_masked(item, known) for item in value]
    if isinstance(value, dict):
        return {_masked(key, known): _masked(item, known) for key, item in value.items()}
    return value
