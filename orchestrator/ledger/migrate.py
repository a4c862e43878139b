"""Brings the database to this release's schema, with Alembic."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from orchestrator import clock
from orchestrator.errors import ConfigurationError, SchemaNotMigrated
from orchestrator.ledger.tables import SCHEMA

#: Any number, the same in every release: the advisory lock that lets one migration at a time work.
MIGRATION_LOCK = 7_246_173_001
#: Seconds until a migration that waits for another asks again.
_ASK_AGAIN = 0.1
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

    Several at once are safe: an advisory lock lets one work while the others wait and then find nothing to do.
    """
    config = _config()
    with (
        _ONE_THREAD,
        _alone(engine),
        engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
    ):
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return current(engine) or ""


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
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def require_migrated(engine: Engine) -> None:
    """SchemaNotMigrated if the database lacks anything that this release needs.

    A revision that this release does not know is a newer one's: migrations only add what the release before can leave
    alone, so that the workers of both work together while the new release is rolled out.
    """
    scripts, found = ScriptDirectory.from_config(_config()), current(engine)
    head, known = scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
    if found is None or (found in known and found != head):
        raise SchemaNotMigrated(
            f"the database is at revision {found or 'none'}, this release needs {head}; run `orchestrator migrate`"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()))
    return config
