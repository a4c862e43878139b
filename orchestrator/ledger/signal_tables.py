"""The tables of signals and events. See ledger/signals.py."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Index, PrimaryKeyConstraint, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.ledger.schema import NOW, TIME, metadata, tenant_column

#: Messages to an execution, and events for whoever waits for them (execution_id NULL, found by correlation).
signal = Table(
    "signal",
    metadata,
    Column("id", Uuid, primary_key=True),
    tenant_column(),
    Column("execution_id", Uuid),
    Column("name", Text, nullable=False),
    Column("correlation", Text),
    # The sender's own id: the same is accepted once.
    Column("dedup_id", Text),
    Column("payload", JSONB, nullable=False),
    # Who sent it, and the roles that were vouched for.
    Column("actor", Text),
    Column("roles", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    # Whether it moves a machine, and is not for a step that waits.
    Column("moves", Boolean, nullable=False, server_default=text("false")),
    # Of a signal to one execution: whether it was taken, or let pass, so that a long life does not fill the inbox.
    Column("taken", Boolean, nullable=False, server_default=text("false")),
    # The state that it is expected to lead to.
    Column("leads_to", Text),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    CheckConstraint("execution_id IS NOT NULL OR correlation IS NOT NULL", name="signal_addressed"),
    Index(
        "signal_dedup_unique",
        "tenant",
        text("coalesce(execution_id::text, 'correlation ' || correlation)"),
        "name",
        "dedup_id",
        unique=True,
        postgresql_where=text("dedup_id IS NOT NULL"),
    ),
    Index("signal_inbox", "execution_id", "id", postgresql_where=text("execution_id IS NOT NULL AND NOT taken")),
    Index("signal_events", "tenant", "name", "correlation", "id", postgresql_where=text("execution_id IS NULL")),
)

#: Which execution has taken which signal, and by which step: none takes one twice.
signal_delivery = Table(
    "signal_delivery",
    metadata,
    Column("signal_id", Uuid, nullable=False),
    Column("execution_id", Uuid, nullable=False),
    tenant_column(),
    Column("path", Text(collation="C"), nullable=False),
    PrimaryKeyConstraint("execution_id", "signal_id", name="pk_signal_delivery"),
)
