"""Changes of the schema that keep no worker waiting, for migrations."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from orchestrator.ledger.tables import SCHEMA

_IS_INVALID = text("SELECT count(*) > 0 FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")
_LIMIT = text("SHOW lock_timeout")


def build_index(name: str, definition: str) -> None:
    """Build an index beside working workers, outside of any transaction: what the migration did before is committed.

    It waits for every transaction that began before it, as long as they take, and nobody waits for it. An index that a
    migration has left half built, as it was killed, is built anew.

    Args:
        definition: what follows `CREATE INDEX name ON`, the table's schema included.
    """
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        # Behind a pooler the session is not ours, and has no limit of ours.
        limited = connection.execute(_LIMIT).scalar() != "0"
        if limited:
            op.execute("SET lock_timeout = 0")
        if connection.execute(_IS_INVALID, {"name": f"{SCHEMA}.{name}"}).scalar():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {definition}")
        if limited:
            op.execute("RESET lock_timeout")
