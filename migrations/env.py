"""Runs the migrations on the connection that `orchestrator migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from orchestrator.ledger.tables import SCHEMA, metadata

#: Any number, the same in every release: the advisory lock that lets one migration at a time work.
MIGRATION_LOCK = 7_246_173_001

connection = context.config.attributes["connection"]
# Another migration may take longer than a statement's lock timeout.
connection.execute(text("SET LOCAL lock_timeout = 0"))
connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
try:
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    connection.commit()
    context.configure(
        connection=connection, target_metadata=metadata, version_table_schema=SCHEMA, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
finally:
    connection.rollback()
    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
    connection.commit()
