"""Books: what the examples' outside services have done, append-only and in PostgreSQL.

They stand for services that know idempotency keys: what is asked again under the same key is done once and answered
as before, and what was taken back is refused when it comes late.

    with books.opened(f"account/{owner}") as book:
        book.post("deposit", ctx.idempotency_key, {"amount": 10})

A book is one subject of one service. Whoever opens it has it alone until the end of the block, which commits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError

from orchestrator import BusinessError, Settings, StepContext, TransientError

_TABLE = text("""
    CREATE SCHEMA IF NOT EXISTS books;
    CREATE TABLE IF NOT EXISTS books.entry (
        entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        book     text NOT NULL,
        action   text NOT NULL,
        key      text NOT NULL,
        -- The key of the entry that this one takes back, made or not.
        reverses text,
        data     jsonb NOT NULL,
        made_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT entry_is_made_once UNIQUE (book, key),
        CONSTRAINT entry_is_reversed_once UNIQUE (book, reverses)
    )
""")
# Two numbers, so that no single number of somebody else's is meant.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('books'), hashtext(:book))")
_READ = text("""
    SELECT key, action, data, extract(epoch FROM clock_timestamp() - made_at)::float8 AS age, reverses
    FROM books.entry WHERE book = :book ORDER BY entry_id
""")
_POST = text("""
    INSERT INTO books.entry (book, action, key, reverses, data)
    VALUES (:book, :action, :key, :reverses, CAST(:data AS jsonb))
""")


class BooksSettings(BaseSettings):
    """Settings of the books, read from BOOKS_* variables."""

    model_config = SettingsConfigDict(env_prefix="BOOKS_", frozen=True)

    #: Where they are kept; the ledger's database if not given.
    database_url: SecretStr | None = None


class TakenBack(BusinessError):
    """It was taken back before it was done."""


class ServiceUnavailable(TransientError):
    """The books' database does not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Something that was done."""

    key: str
    action: str
    data: dict[str, Any]
    #: Seconds since then, by the database's clock.
    age: float = 0.0
    #: The key of the entry that this one takes back.
    reverses: str | None = None


@dataclass
class Book:
    """One subject of a service, open."""

    name: str
    _connection: Connection = field(repr=False)
    #: Everything that was done, the oldest first; what was taken back too.
    entries: list[Entry] = field(default_factory=list)

    @property
    def standing(self) -> list[Entry]:
        """What was done and not taken back."""
        reversed_keys = {entry.reverses for entry in self.entries}
        return [entry for entry in self.entries if entry.reverses is None and entry.key not in reversed_keys]

    def found(self, key: str) -> Entry | None:
        """What was done under a key."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def last(self, action: str) -> Entry | None:
        """The latest of a kind that stands."""
        return next((entry for entry in reversed(self.standing) if entry.action == action), None)

    def total(self, name: str) -> float:
        """The sum of a figure over what stands."""
        return float(sum(entry.data.get(name, 0) for entry in self.standing))

    def post(self, action: str, key: str, data: dict[str, Any], *, reverses: str | None = None) -> Entry:
        """Do something; what was done before under the key is given back as it was. TakenBack if that came first."""
        made = self.found(key)
        if made is not None:
            return made
        if any(entry.reverses == key for entry in self.entries):
            raise TakenBack
        made = Entry(key=key, action=action, data=data, reverses=reverses)
        row = {"book": self.name, "action": action, "key": key, "reverses": reverses, "data": json.dumps(data)}
        self._connection.execute(_POST, row)
        self.entries.append(made)
        return made

    def take_back(self, ctx: StepContext, action: str) -> bool:
        """In a compensation: take back what its step did, and refuse it from now on; False if it did nothing."""
        key = forward_key(ctx)
        self.post(action, ctx.idempotency_key, {}, reverses=key)
        return self.found(key) is not None


def forward_key(ctx: StepContext) -> str:
    """The idempotency key of the step that a compensation undoes."""
    return f"{ctx.execution_id}/{ctx.path.removeprefix('undo:')}"


@contextmanager
def opened(name: str, connection: Connection | None = None) -> Iterator[Book]:
    """Open a book; ServiceUnavailable while the database does not answer.

    Args:
        connection: the ledger's, in transactional activities: the entries commit with the step's record.
    """
    try:
        process, url = os.getpid(), _database_url()
        _prepare(process, url)
        if connection is not None:
            yield _read(connection, name)
        else:
            with _engine(process, url).begin() as own:
                yield _read(own, name)
    except (InterfaceError, OperationalError) as error:
        raise ServiceUnavailable from error


def read(name: str) -> Book:
    """A book as it stands now, to be looked at."""
    with opened(name) as book:
        return book


def _read(connection: Connection, name: str) -> Book:
    connection.execute(_LOCK, {"book": name})
    entries = [Entry(**row) for row in connection.execute(_READ, {"book": name}).mappings()]
    return Book(name, connection, entries)


@cache
def _prepare(process: int, url: str) -> None:
    """Make the table, once in a process."""
    with _engine(process, url).begin() as connection:
        connection.execute(_LOCK, {"book": ""})
        for statement in _TABLE.text.split(";"):
            connection.execute(text(statement))


@cache
def _engine(_process: int, url: str) -> Engine:
    """The engine of a process: a connection opened before a fork must not be spoken to by both sides."""
    made = make_url(url).set(drivername="postgresql+psycopg")
    return create_engine(made, pool_size=1, max_overflow=8, isolation_level="READ COMMITTED")


class _Place:
    url: str | None = None


def use(database_url: str) -> None:
    """Keep the books of this process there, whatever its environment says."""
    _Place.url = database_url


def _database_url() -> str:
    """The books' own database, or the ledger's."""
    own = BooksSettings().database_url
    return _Place.url or (own.get_secret_value() if own else Settings().require_database_url())
