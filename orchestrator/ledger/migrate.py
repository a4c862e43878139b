"""Brings the database to this release's schema, with Alembic, beside working workers.

A statement that waits for a table's exclusive lock has everybody else wait behind it, however short its own work: a
backup or a forgotten transaction in the way would then stop all workers. So a migration waits for `LOCK_PATIENCE` at a
time, gives up its place in the queue, and asks again; each revision is one transaction, and begins anew.

Alembic is imported where it is used: every worker and application imports this module, and few of them migrate.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from orchestrator import clock
from orchestrator.errors import ConfigurationError, SchemaNotMigrated
from orchestrator.ledger import database
from orchestrator.ledger.tables import SCHEMA

if TYPE_CHECKING:
    from alembic.config import Config

logger = logging.getLogger("orchestrator.migrate")

#: Any number, the same in every release: the advisory lock that lets one migration at a time work.
MIGRATION_LOCK = 7_246_173_001
#: Seconds that a migration keeps others waiting behind it for a lock.
LOCK_PATIENCE = 1.0
#: Seconds until it asks for that lock again.
_NEXT_TRY = 2.0
#: Seconds until a migration that waits for another asks again.
_ASK_AGAIN = 0.1
#: Sessions that have been in a transaction with one of our tables for a while.
_IN_THE_WAY = text("""
SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), a.usename, '?') AS who, a.state,
       CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS int) AS seconds
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid
WHERE c.relnamespace = CAST(:schema AS regnamespace) AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND a.xact_start < clock_timestamp() - CAST(:patience AS float8) * interval '1 second'
ORDER BY seconds DESC LIMIT 5
""")
#: Alembic keeps its context in a module: one thread at a time.
_ONE_THREAD = threading.Lock()


def script_location() -> Path:
    """The folder of migrations: inside the installed package, or at the top of a source checkout."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "migrations", package.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise ConfigurationError(f"the migrations are missing beside {package}; install the package again")


def migrate(engine: Engine, revision: str = "head") -> str:
    """Upgrade to a revision (the newest by default) and return the revision now in force.

    Several at once are safe: an advisory lock lets one work while the others wait and then find nothing to do. It waits
    as long as a transaction is in the way, without keeping anybody else waiting, and logs whose it is.
    """
    with _ONE_THREAD, _alone(engine):
        while not _upgraded(engine, revision):
            clock.pause(_NEXT_TRY)
    return current(engine) or ""


def _upgraded(engine: Engine, revision: str) -> bool:
    """Whether nobody's lock was in the way; what was done before that stays."""
    from alembic import command  # noqa: PLC0415

    config = _config()
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        event.listen(connection, "begin", _wait_shortly)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except OperationalError as error:
            if database.sqlstate(error) != database.LOCK_TIMEOUT:
                raise
            connection.rollback()
            rows = connection.execute(_IN_THE_WAY, {"schema": SCHEMA, "patience": LOCK_PATIENCE})
            found = [f"pid {row.pid} ({row.who}, {row.state}, {row.seconds} s)" for row in rows]
            logger.warning("the migration waits for other transactions: %s", ", ".join(found) or "they have just ended")
            return False
        return True


def _wait_shortly(connection: Connection) -> None:
    # Also behind a pooler, which would give a session's own setting to whoever comes next.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(LOCK_PATIENCE * 1000)}ms'")


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Holds the lock, by an open transaction on a connection of its own: behind a pooler no session can hold one.

    Who waits asks again and again, and who holds it ends on a command that reads nothing: an index that is built beside
    working workers waits for every snapshot there is, those of both included.
    """
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.detach()
        while not holder.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK}).scalar():
            holder.rollback()
            clock.pause(_ASK_AGAIN)
        # The migration may take longer than any idle transaction's timeout.
        holder.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


def current(engine: Engine) -> str | None:
    """The revision in force; None for a database never migrated."""
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def require_migrated(engine: Engine) -> None:
    """SchemaNotMigrated if the database lacks anything that this release needs.

    A revision that this release does not know is a newer one's: migrations only add what the release before can leave
    alone, so that the workers of both work together while the new release is rolled out.
    """
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts, found = ScriptDirectory.from_config(_config()), current(engine)
    head, known = scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
    if found is None or (found in known and found != head):
        raise SchemaNotMigrated(
            f"the database is at revision {found or 'none'}, this release needs {head}; run `orchestrator migrate`"
        )


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(script_location()))
    return config
