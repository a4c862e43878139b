"""A server that answers, but takes no statement now: it is asked again, on another connection where that may help."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from ledger.conftest import Administer
from ledger.races import Background, until
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ledger import database
from orchestrator.ledger.statement import Statement

READ_ONLY = "SET default_transaction_read_only = on"


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    engine = database.connect(ledger_url, pool_size=4, lock_timeout=10)
    yield engine
    engine.dispose()


def write(engine: Engine) -> int:
    """Write something; the backend that did it."""
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS public.written (at int)")
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_whose_server_has_become_read_only_is_left_for_another(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(READ_ONLY)
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    tries = []

    def attempt() -> int:
        tries.append(before)
        return write(engine)

    assert database.persist(attempt) != before
    assert len(tries) == 2, "the first met the old connection"


def test_a_server_that_stays_read_only_is_unavailable(administer: Administer, ledger_url: str) -> None:
    name = make_url(ledger_url).database
    administer(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    engine = database.connect(ledger_url, pool_size=1, lock_timeout=5)
    try:
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            database.persist(lambda: write(engine), give_up_after=0.3, at=engine)
    finally:
        engine.dispose()
        administer(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@pytest.mark.parametrize("code", ["53100", "53200", "53300", "58030"])
def test_a_server_without_disk_memory_connections_or_files_is_asked_again(engine: Engine, code: str) -> None:
    answers = [f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$", "SELECT 1"]

    def attempt() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(answers.pop(0))

    database.persist(attempt)
    assert answers == []


def test_a_limit_that_every_repetition_would_meet_is_an_answer(engine: Engine) -> None:
    def attempt() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53400'; END $$")

    with pytest.raises(DBAPIError):
        database.persist(attempt)


def test_a_statement_that_somebody_cancels_is_sent_again(engine: Engine) -> None:
    """An operator's pg_cancel_backend must not end a guard's settle: its claim would be left with a living owner."""
    lock, sent = "SELECT pg_advisory_xact_lock(7)", []

    def wait(connection: Connection) -> None:
        def attempt() -> None:
            sent.append(lock)
            connection.exec_driver_sql(lock)

        database.persist(attempt)

    with engine.connect() as operator, database.transaction(engine) as holder:
        holder.exec_driver_sql(lock)
        with Background(engine, wait) as waiting:
            waiting.until_blocked()
            operator.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": waiting.pid})
            until(lambda: len(sent) > 1, "it is sent again")
            holder.rollback()
            waiting.result()


def test_a_server_notices_a_peer_that_vanished(engine: Engine) -> None:
    """Else it keeps the locks of an open transaction for hours."""
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    with engine.connect() as connection:
        told = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    assert told == ["4", "2", "3", "10000"]


def backend(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def by_sqlalchemy(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def as_it_is(connection: Connection, statement: str) -> None:
    Statement(statement).first(connection, {})


@pytest.mark.parametrize("carry_out", [by_sqlalchemy, as_it_is])
def test_where_a_connection_was_lost_none_that_is_as_old_is_used_again(
    engine: Engine, ledger_url: str, carry_out: Callable[[Connection, str], None]
) -> None:
    """Of those that are lost without a word, each would hold up whoever meets it."""
    other = database.connect(ledger_url, pool_size=1, lock_timeout=10)
    try:
        idle = backend(other)
        assert backend(other) == idle
        with engine.connect() as connection, pytest.raises(DBAPIError):
            carry_out(connection, "SELECT 1 / 0")
        assert backend(other) == idle, "an error is no loss"
        with engine.connect() as connection, pytest.raises(DBAPIError):
            carry_out(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
        replaced = backend(other)
        assert replaced != idle
        assert backend(other) == replaced
    finally:
        other.dispose()
