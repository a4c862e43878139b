"""The tables of operation: who did what by hand, what went wrong, what attempts said, and values kept between them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.ledger.schema import NOW, TIME, metadata, tenant_column

#: Every command of an operator that took effect, written by the statement that carried it out.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    tenant_column(),
    Column("at", TIME, nullable=False, server_default=NOW),
    Column("actor", Text, nullable=False),
    # cancel, pause, resume, retry, skip, complete, compensate, fork, maintenance ...
    Column("command", Text, nullable=False),
    # What it was done to; NULL for what concerns the whole tenant.
    Column("execution_id", Uuid),
    Column("path", Text(collation="C")),
    Column("reason", Text),
    Column("parameters", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Index("audit_of_execution", "execution_id", "id", postgresql_where=text("execution_id IS NOT NULL")),
)

#: A tenant with a row here starts nothing new; what runs is finished.
maintenance = Table(
    "maintenance",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Column("since", TIME, nullable=False, server_default=NOW),
)

#: Something that somebody should look at; one open row for all that have the same fingerprint.
incident = Table(
    "incident",
    metadata,
    Column("id", Uuid, primary_key=True),
    tenant_column(),
    # retries_exhausted, compensation_failed, queue_without_consumer, unknown_on_workers, drift ...
    Column("kind", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("count", Integer, nullable=False, server_default=text("1")),
    Column("assignee", Text),
    Column("opened_at", TIME, nullable=False, server_default=NOW),
    Column("last_at", TIME, nullable=False, server_default=NOW),
    Column("closed_at", TIME),
    Column("closed_by", Text),
    Column("reason", Text),
    CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name="incident_closed_by_somebody"),
    Index(
        "incident_open_unique",
        "tenant",
        "kind",
        "fingerprint",
        unique=True,
        postgresql_where=text("closed_at IS NULL"),
    ),
)

#: The executions that an incident is about.
incident_subject = Table(
    "incident_subject",
    metadata,
    Column("incident_id", Uuid, nullable=False),
    Column("execution_id", Uuid, nullable=False),
    tenant_column(),
    Column("path", Text(collation="C"), nullable=False, server_default=text("''")),
    Column("at", TIME, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("incident_id", "execution_id", "path", name="pk_incident_subject"),
    Index("incident_subject_execution", "execution_id"),
)

#: A value that an activity computed once, the same for all attempts at its step.
side_effect = Table(
    "side_effect",
    metadata,
    Column("execution_id", Uuid, nullable=False),
    Column("path", Text(collation="C"), nullable=False),
    Column("name", Text, nullable=False),
    tenant_column(),
    Column("value", JSONB, nullable=False),
    Column("at", TIME, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("execution_id", "path", "name", name="pk_side_effect"),
)

#: What an attempt logged.
attempt_log = Table(
    "attempt_log",
    metadata,
    Column("execution_id", Uuid, nullable=False),
    Column("path", Text(collation="C"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    tenant_column(),
    Column("at", TIME, nullable=False),
    # As Python's logging counts: 10 debug, 20 info, 30 warning, 40 error, 50 critical.
    Column("level", SmallInteger, nullable=False),
    Column("logger", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("fields", JSONB),
    PrimaryKeyConstraint("execution_id", "path", "attempt", "number", name="pk_attempt_log"),
)
