"""The migrations: they build the tables of `orchestrator.ledger.tables`, however often and by however many."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from orchestrator import clock
from orchestrator.errors import SchemaNotMigrated
from orchestrator.ledger import database, executions, views
from orchestrator.ledger.migrate import current, migrate, require_migrated, script_location
from orchestrator.ledger.tables import SCHEMA, metadata

_names = count(1)

#: The lock of migrations/env.py, the same in every release.
MIGRATION_LOCK = 7_246_173_001

#: What a process does that migrates.
PROCESS = """
import sys
from orchestrator.ledger import database, migrate
engine = database.connect(sys.argv[1], pool_size=1, lock_timeout=10)
print(migrate.migrate(engine))
"""

#: What PostgreSQL knows of the ledger; its own spelling makes equal things look equal.
CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               pg_get_expr(d.adbin, d.adrelid), l.collname
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind = 'r' AND a.attnum > 0
          AND NOT a.attisdropped""",
    "constraints": """
        SELECT CAST(conrelid AS regclass)::text, conname, contype, pg_get_constraintdef(oid), convalidated
        FROM pg_constraint WHERE connamespace = CAST(:schema AS regnamespace)""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = :schema",
    "others": """
        SELECT relname, relkind FROM pg_class
        WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind NOT IN ('r', 'i')""",
}


@pytest.fixture
def empty(database_url: str) -> Iterator[Callable[[], Engine]]:
    """Makes engines, each on a new and empty database."""
    administration = create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    made: list[tuple[str, Engine]] = []

    def create() -> Engine:
        name = f"migration_{next(_names)}"
        with administration.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = make_url(database_url).set(database=name).render_as_string(hide_password=False)
        made.append((name, database.connect(url, pool_size=8, lock_timeout=0.3)))
        return made[-1][1]

    yield create
    for name, engine in made:
        engine.dispose()
        with administration.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def catalog(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """What PostgreSQL knows of the ledger, Alembic's own table aside."""
    with engine.connect() as connection:
        return {
            kind: {
                tuple(row)
                for row in connection.execute(text(query.replace("::", "\\:\\:")), {"schema": SCHEMA})
                if "alembic_version" not in str(row[0])
            }
            for kind, query in CATALOG.items()
        }


def head() -> str | None:
    config = Config()
    config.set_main_option("script_location", str(script_location()))
    return ScriptDirectory.from_config(config).get_current_head()


def test_the_migrations_build_the_tables_that_the_code_describes(empty: Callable[[], Engine]) -> None:
    migrated, created = empty(), empty()
    migrate(migrated)
    with created.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        metadata.create_all(connection)
    built, described = catalog(migrated), catalog(created)
    for kind in CATALOG:
        assert len(described[kind]) >= 2, kind
        assert built[kind] == described[kind], kind


def test_migrating_twice_changes_nothing(empty: Callable[[], Engine]) -> None:
    engine = empty()
    assert current(engine) is None
    assert migrate(engine) == head()
    before = catalog(engine)
    assert migrate(engine) == head() == current(engine)
    assert catalog(engine) == before


def test_several_migrations_at_once_are_one_migration(empty: Callable[[], Engine]) -> None:
    engine = empty()
    barrier = threading.Barrier(4)

    def act() -> str:
        barrier.wait(10)
        return migrate(engine)

    with ThreadPoolExecutor(4) as pool:
        assert {future.result(60) for future in [pool.submit(act) for _ in range(4)]} == {head()}


def test_several_processes_that_migrate_at_once_make_one_migration(empty: Callable[[], Engine]) -> None:
    engine = empty()
    url = engine.url.render_as_string(hide_password=False)
    with engine.connect() as holder:
        holder.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        command = [sys.executable, "-c", PROCESS, url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        begun = clock.elapsed()
        while sessions(holder) < len(processes):
            assert clock.elapsed() - begun < 30
            clock.pause(0.01)
        holder.execute(text(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
    answers = [process.communicate(timeout=30)[0].strip() for process in processes]
    assert answers == [head(), head()]


def sessions(connection: Connection) -> int:
    """How many others have a session on this database."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return int(connection.execute(text(others)).scalar_one())


def test_a_migration_waits_for_another_longer_than_the_lock_timeout(empty: Callable[[], Engine]) -> None:
    engine = empty()
    with engine.connect() as busy, ThreadPoolExecutor(1) as pool:
        busy.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        migrating = pool.submit(migrate, engine)
        begun = clock.elapsed()
        while clock.elapsed() - begun < 0.8:
            assert not migrating.done(), migrating.exception()
            clock.pause(0.01)
        busy.execute(text(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
        assert migrating.result(30) == head()


def test_a_database_that_was_never_migrated_says_so_and_what_to_do(empty: Callable[[], Engine]) -> None:
    engine = empty()
    with pytest.raises(SchemaNotMigrated, match=r"revision none.*orchestrator migrate"):
        require_migrated(engine)
    migrate(engine)
    require_migrated(engine)


def test_a_database_of_another_release_says_which_revision_is_needed(empty: Callable[[], Engine]) -> None:
    engine = empty()
    migrate(engine, "0001")
    with pytest.raises(SchemaNotMigrated, match=f"revision 0001, this release needs {head()}"):
        require_migrated(engine)


def test_a_release_works_on_with_the_schema_of_a_newer_one(empty: Callable[[], Engine]) -> None:
    engine = empty()
    migrate(engine)
    with engine.connect() as connection:
        connection.execute(text(f"UPDATE {SCHEMA}.alembic_version SET version_num = 'newer'"))
    require_migrated(engine)


@pytest.mark.parametrize("with_schema", [False, True])
def test_a_statement_on_a_database_never_migrated_raises_the_same(
    empty: Callable[[], Engine], with_schema: bool
) -> None:
    engine = empty()
    with engine.connect() as connection:
        if with_schema:
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        for read in (views.status, executions.about):
            with pytest.raises(SchemaNotMigrated, match="orchestrator migrate"):
                database.persist(lambda read=read: read(connection, "00000000-0000-0000-0000-000000000000"))  # type: ignore[misc]
