"""Runs the migrations on the connection that `orchestrator migrate` hands over, while nobody else does."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from orchestrator.ledger.tables import SCHEMA, metadata

connection = context.config.attributes["connection"]
connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
connection.commit()
context.configure(
    connection=connection, target_metadata=metadata, version_table_schema=SCHEMA, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
