"""Starts inside the caller's own SQLAlchemy transaction. No worker runs: what is published stays in the queue."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from app_support import Place, eventually, place
from redis import Redis
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from orchestrator import ExecutionHandle, IdempotencyConflict, Orchestrator
from orchestrator.embedded import Servers
from orchestrator.engine.after_commit import Transaction
from orchestrator.errors import IdempotencyKeyHeld

#: Starts an execution inside a transaction and returns its id.
Start: TypeAlias = Callable[[Transaction], str]


@pytest.fixture(scope="module")
def home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(servers, tmp_path_factory.mktemp("transactions"), "app_transactions", number=6) as found:
        yield found


@pytest.fixture(scope="module")
def orchestrator(home: Place) -> Orchestrator:
    return Orchestrator(
        database_url=home.database_url, broker_url=home.broker_url, modules=("app_workflows",), lock_timeout=0.5
    )


@pytest.fixture
def start(orchestrator: Orchestrator, home: Place) -> Start:
    Redis.from_url(home.broker_url).flushdb()
    return lambda session: orchestrator.start("app-echo", 1, session=session).id


@pytest.fixture(scope="module")
def engine(home: Place) -> Iterator[Engine]:
    """The application's own."""
    engine = create_engine(home.database_url)
    yield engine
    engine.dispose()


def published(home: Place) -> list[str]:
    """Execution ids of the messages in the queue, in order."""
    messages = Redis.from_url(home.broker_url).lrange("orchestrator", 0, -1)
    assert isinstance(messages, list)
    return [json.loads(b64decode(json.loads(message)["body"]))[0][0] for message in reversed(messages)]


def watches() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "publish-after-commit"]


def exists(home: Place, execution_id: str) -> bool:
    return bool(home.value("SELECT count(*) FROM orchestrator.execution WHERE id = :id", id=execution_id))


def settled(home: Place, expected: list[str]) -> bool:
    """Whether exactly these were published, and nobody is left who would publish more."""
    return not watches() and published(home) == expected


def test_a_session_publishes_at_its_commit_and_not_before(home: Place, engine: Engine, start: Start) -> None:
    with Session(engine) as session:
        started = start(session)
        session.flush()
        assert (published(home), exists(home, started)) == ([], False)
        session.commit()
        assert (published(home), exists(home, started)) == ([started], True)


def test_a_session_that_is_rolled_back_or_closed_publishes_nothing_then_or_later(
    home: Place, engine: Engine, start: Start
) -> None:
    with Session(engine) as session:
        dropped = [start(session)]
        session.rollback()
        dropped.append(start(session))
        session.close()
        kept = start(session)
        session.commit()
        session.execute(text("SELECT 1"))
        session.commit()
    assert published(home) == [kept]
    assert not any(exists(home, execution_id) for execution_id in dropped)


def test_a_session_used_for_many_transactions_publishes_each_start_once(
    home: Place, engine: Engine, start: Start
) -> None:
    with Session(engine) as session:
        ids = []
        for size in (1, 3, 0, 2):
            ids += [start(session) for _ in range(size)]
            session.commit()
            assert published(home) == ids


def test_a_sessions_savepoints_publish_what_the_outermost_commit_keeps(
    home: Place, engine: Engine, start: Start
) -> None:
    with Session(engine) as session, session.begin():
        first = start(session)
        with session.begin_nested() as savepoint:
            dropped = start(session)
            with session.begin_nested():
                dropped_too = start(session)
            savepoint.rollback()
        with session.begin_nested():
            second = start(session)
            with session.begin_nested():
                third = start(session)
        assert published(home) == []
    assert published(home) == [first, second, third]
    assert not exists(home, dropped)
    assert not exists(home, dropped_too)


def test_an_outer_rollback_forgets_what_savepoints_had_kept(home: Place, engine: Engine, start: Start) -> None:
    with Session(engine) as session:
        with session.begin_nested():
            start(session)
        session.rollback()
        session.commit()
        kept = start(session)
        session.commit()
    assert published(home) == [kept]


def test_a_scoped_session_is_as_good_as_its_session(home: Place, engine: Engine, start: Start) -> None:
    registry = scoped_session(sessionmaker(engine))
    started = start(registry)
    assert published(home) == []
    registry.commit()
    registry.remove()
    assert published(home) == [started]


def test_a_session_within_somebodys_transaction_waits_for_that_one(home: Place, engine: Engine, start: Start) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            started = start(session)
            session.commit()
        assert published(home) == []
        outer.commit()
        eventually(lambda: settled(home, [started]))
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            start(session)
            session.commit()
        outer.rollback()
    assert settled(home, [started])


def test_a_connection_publishes_all_of_a_transaction_soon_after_its_commit(
    home: Place, engine: Engine, start: Start
) -> None:
    with engine.connect() as connection:
        ids = [start(connection) for _ in range(3)]
        assert published(home) == []
        connection.commit()
        eventually(lambda: settled(home, ids))
        with connection.begin():
            ids.append(start(connection))
        eventually(lambda: settled(home, ids))
        connection.execute(text("SELECT 1"))
        connection.commit()
    assert settled(home, ids)


def test_a_connection_that_is_rolled_back_or_closed_publishes_nothing_then_or_later(
    home: Place, engine: Engine, start: Start
) -> None:
    with engine.connect() as connection:
        dropped = [start(connection)]
        connection.rollback()
        connection.execute(text("SELECT 1"))
        connection.commit()
        assert watches() == []
        dropped.append(start(connection))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.commit()
    assert settled(home, [])
    assert not any(exists(home, execution_id) for execution_id in dropped)


def test_a_connections_savepoints_publish_what_the_commit_keeps(home: Place, engine: Engine, start: Start) -> None:
    with engine.begin() as connection:
        first = start(connection)
        savepoint = connection.begin_nested()
        dropped = start(connection)
        savepoint.rollback()
        with connection.begin_nested():
            second = start(connection)
        assert watches() == []
    eventually(lambda: settled(home, [first, second]))
    assert not exists(home, dropped)
    with engine.begin() as connection:
        savepoint = connection.begin_nested()
        start(connection)
        savepoint.rollback()
    assert settled(home, [first, second])


def test_on_an_autocommit_connection_a_start_is_published_at_once(home: Place, engine: Engine, start: Start) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        started = start(connection)
        assert published(home) == [started]
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        ids = [started, start(session)]
    assert settled(home, ids)


def test_async_sessions_and_connections_publish_after_their_commit(home: Place, orchestrator: Orchestrator) -> None:
    Redis.from_url(home.broker_url).flushdb()

    async def use() -> list[ExecutionHandle]:
        engine = create_async_engine(home.database_url)
        try:
            async with AsyncSession(engine) as session:
                kept = [await orchestrator.astart("app-echo", 1, session=session)]
                assert published(home) == []
                await session.commit()
                await orchestrator.astart("app-echo", 2, session=session)
                await session.rollback()
                await session.commit()
            async with engine.begin() as connection:
                kept.append(await orchestrator.astart("app-echo", 3, session=connection))
            return kept
        finally:
            await engine.dispose()

    kept = asyncio.run(use())
    eventually(lambda: sorted(published(home)) == sorted(handle.id for handle in kept) and not watches())


def test_a_refused_key_leaves_the_callers_transaction_usable(
    home: Place, engine: Engine, orchestrator: Orchestrator
) -> None:
    with Session(engine) as session, session.begin():
        first = orchestrator.start("app-echo", 1, idempotency_key="theirs", session=session)
        with pytest.raises(IdempotencyConflict):
            orchestrator.start("app-echo", 2, idempotency_key="theirs", session=session)
        assert orchestrator.start("app-echo", 1, idempotency_key="theirs", session=session) == first.__class__(
            id=first.id, created=False, _database=orchestrator.core.database
        )
    assert exists(home, first.id)


def test_a_key_in_an_open_transaction_is_held_until_that_ends(engine: Engine, orchestrator: Orchestrator) -> None:
    with engine.connect() as connection:
        orchestrator.start("app-echo", 1, idempotency_key="held", session=connection)
        with pytest.raises(IdempotencyKeyHeld):
            orchestrator.start("app-echo", 1, idempotency_key="held")
        connection.rollback()
    assert orchestrator.start("app-echo", 1, idempotency_key="held").created


def test_a_session_is_not_kept_alive_by_what_it_started(engine: Engine, start: Start) -> None:
    def sessions() -> int:
        gc.collect()
        # Not isinstance: Django's settings, imported by others, want to be configured when they are asked.
        return sum(issubclass(type(found), Session | Connection) for found in gc.get_objects())

    before = sessions()
    for _ in range(20):
        with Session(engine) as session:
            start(session)
            session.commit()
        with engine.begin() as connection:
            start(connection)
    del session, connection
    eventually(lambda: not watches())
    assert sessions() <= before
