"""Migrations of a ledger that is being worked on: nobody waits for them, and nothing is rewritten."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from orchestrator.ledger import database
from orchestrator.ledger.migrate import migrate, script_location

#: The newest revision before the rule that releases and schemas of different age work together.
BASELINE = "0004"
_names = count(1)

#: What would keep workers waiting, or break the release before, in an upgrade.
FORBIDDEN = {
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\b(?!\s+CONCURRENTLY)": "builds an index under a lock: use online.build_index",
    r"\bALTER\s+COLUMN\b.*\bTYPE\b": "rewrites the table",
    r"\bSET\s+NOT\s+NULL\b": "reads the whole table under a lock: add a CHECK that is NOT VALID, and validate it",
    r"\bADD\s+CONSTRAINT\b(?!.*\bNOT\s+VALID\b)": "reads the table under a lock: add it NOT VALID, and validate it",
    r"\b(DROP|RENAME)\s+(COLUMN|TABLE|TO)\b": "takes from the release before what it reads",
    r"\bLOCK\s+TABLE\b": "keeps workers waiting",
    r"\bop\.(?!execute\b|get_context\b|get_bind\b)\w+\(": "is checked by nothing here: write the SQL",
}


def revisions() -> list[Path]:
    """The migrations since the baseline."""
    return sorted(path for path in (script_location() / "versions").glob("[0-9]*.py") if path.name[:4] > BASELINE)


@pytest.fixture
def old(database_url: str) -> Iterator[Engine]:
    """A ledger of the baseline, with rows in it."""
    name = f"online_{next(_names)}"
    administration = create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with administration.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    engine = database.connect(url, pool_size=8, lock_timeout=30)
    migrate(engine, BASELINE)
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO orchestrator.worker (boot_id, tenant, name, queues, children, pid) "
                "SELECT 'boot-' || n, 'default', 'w', '{}', '{}', n FROM generate_series(1, 1000) n"
            )
        )
    yield engine
    engine.dispose()
    with administration.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    administration.dispose()


@contextmanager
def migrating(engine: Engine) -> Iterator[threading.Thread]:
    """A migration in a thread, which has ended without an error by the end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate(engine)
        except BaseException as error:  # told by the test
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()
    assert errors == []


def files(connection: Connection) -> dict[str, int]:
    """table -> the file that it is in, another one after it was rewritten."""
    rows = connection.execute(
        text(
            "SELECT relname, relfilenode FROM pg_class "
            "WHERE relnamespace = CAST('orchestrator' AS regnamespace) AND relkind = 'r'"
        )
    )
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("path", revisions(), ids=lambda path: path.stem)
def test_a_migration_does_nothing_that_keeps_workers_waiting(path: Path) -> None:
    upgrade = path.read_text().split("def upgrade", 1)[1].split("def downgrade", 1)[0]
    assert [why for pattern, why in FORBIDDEN.items() if re.search(pattern, upgrade, re.IGNORECASE)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX a ON orchestrator.step (queue)",
        "ALTER TABLE orchestrator.step ALTER COLUMN attempt TYPE bigint",
        "ALTER TABLE orchestrator.step ALTER COLUMN queue SET NOT NULL",
        "ALTER TABLE orchestrator.step ADD CONSTRAINT c CHECK (attempt > 0)",
        "ALTER TABLE orchestrator.step DROP COLUMN queue",
        "ALTER TABLE orchestrator.step RENAME TO steps",
        'op.create_index("a", "step", ["queue"])',
    ],
)
def test_the_rules_know_what_they_forbid(statement: str) -> None:
    assert any(re.search(pattern, statement, re.IGNORECASE) for pattern in FORBIDDEN)


def test_no_table_is_rewritten(old: Engine) -> None:
    with old.connect() as connection:
        before = files(connection)
    migrate(old)
    with old.connect() as connection:
        after = files(connection)
    assert {table: after[table] for table in before} == before


#: Whether a session waits for a lock behind the one that wants the table exclusively, which waits itself.
_BEHIND = text("""
SELECT wanted.pid = ANY(pg_blocking_pids(:pid)) FROM pg_locks wanted
WHERE NOT wanted.granted AND wanted.mode = 'AccessExclusiveLock' AND wanted.relation = 'orchestrator.worker'::regclass
""")
_BEAT = text("UPDATE orchestrator.worker SET seen = clock_timestamp() WHERE boot_id = 'boot-1'")


def test_who_works_does_not_wait_behind_a_migration_that_waits_for_somebody_else(old: Engine) -> None:
    """As a dump holds its tables all the while: the migration wants one exclusively, and heartbeats come behind it.

    One that is seen to wait behind the migration gets through while the reader is still there: so the migration has
    stepped back. With the lock's own queue it would wait for the reader.
    """
    with old.connect() as reader, old.connect() as beats, old.connect() as eye:
        reader.execution_options(isolation_level="REPEATABLE READ")
        reader.execute(text("SELECT count(*) FROM orchestrator.worker")).scalar()
        pid = beats.execute(text("SELECT pg_backend_pid()")).scalar()
        with migrating(old) as migration, ThreadPoolExecutor(1) as pool:
            behind, deadline = 0, time.monotonic() + 60
            while behind < 2:
                assert time.monotonic() < deadline, "no heartbeat has come behind the migration"
                beat, waited = pool.submit(beats.execute, _BEAT), False
                while not beat.done():
                    waited = waited or bool(eye.execute(_BEHIND, {"pid": pid}).scalar())
                beat.result()
                behind += waited
            assert migration.is_alive(), "it still waits for the reader"
            reader.rollback()
    with old.connect() as connection:
        assert connection.execute(text("SELECT draining_at FROM orchestrator.worker LIMIT 1")).scalar() is None


def test_an_index_that_a_killed_migration_has_left_half_built_is_built_anew(old: Engine) -> None:
    migrate(old, "0005")
    with old.connect() as connection:
        connection.execute(text("ALTER TABLE orchestrator.execution ADD COLUMN purged_at timestamptz"))
    with old.connect() as writer, old.connect() as builder:
        writer.execution_options(isolation_level="READ COMMITTED")
        writer.execute(text("LOCK TABLE orchestrator.execution IN ROW EXCLUSIVE MODE"))
        builder.execute(text("SET lock_timeout = '100ms'"))
        with pytest.raises(OperationalError):
            builder.execute(text("CREATE INDEX CONCURRENTLY execution_settled ON orchestrator.execution (settled_at)"))
        builder.execute(text("RESET lock_timeout"))
        writer.rollback()
    state = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('orchestrator.execution_settled')")
    with old.connect() as connection:
        assert connection.execute(state).scalar() is False
        migrate(old)
        assert connection.execute(state).scalar() is True
