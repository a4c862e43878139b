"""The ledger's tables. `migrations/` builds them; a test compares the two.

Why no foreign key leads from step or event to execution: its check locks the execution's row on every insert, and
parallel branches would meet there. The statements guard existence themselves: a row is inserted from a row found.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
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

from orchestrator.ledger.node_tables import straggler, worker
from orchestrator.ledger.operation_tables import (
    attempt_log,
    audit,
    incident,
    incident_subject,
    maintenance,
    side_effect,
)
from orchestrator.ledger.schema import (
    FINAL,
    NOW,
    OPEN,
    SCHEMA,
    SETTLED,
    TIME,
    Snapshot,
    Xid8,
    metadata,
    sql_list,
    status_domain,
    tenant_column,
)
from orchestrator.ledger.signal_tables import signal, signal_delivery
from orchestrator.model.state import ExecutionStatus, StepStatus

__all__ = [
    "FINAL",
    "OPEN",
    "SCHEMA",
    "SETTLED",
    "attempt_log",
    "audit",
    "definition",
    "event",
    "execution",
    "idempotency_record",
    "incident",
    "incident_subject",
    "maintenance",
    "metadata",
    "probe",
    "schedule_fire",
    "secret",
    "side_effect",
    "signal",
    "signal_delivery",
    "sql_list",
    "step",
    "straggler",
    "worker",
]

_execution_status = status_domain("execution_status", ExecutionStatus)
_step_status = status_domain("step_status", StepStatus)

definition = Table(
    "definition",
    metadata,
    Column("id", Uuid, primary_key=True),
    tenant_column(),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'published'")),
    Column("spec", JSONB, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    CheckConstraint("status IN ('draft', 'published', 'retired')", name="definition_status_known"),
    CheckConstraint("version >= 1", name="definition_version_positive"),
    Index("definition_version_unique", "tenant", "name", "version", unique=True),
)

execution = Table(
    "execution",
    metadata,
    Column("id", Uuid, primary_key=True),
    tenant_column(),
    Column("definition_id", Uuid, ForeignKey(definition.c.id, name="execution_definition"), nullable=False),
    Column("definition_name", Text, nullable=False),
    Column("definition_version", Integer, nullable=False),
    Column("status", _execution_status, nullable=False),
    Column("input", JSONB, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("output", JSONB),
    Column("error", JSONB),
    Column("idempotency_key", Text),
    Column("correlation_id", Text),
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("actor", Text),
    # The step that started this execution and waits for it; NULL for a detached one too.
    Column("parent_id", Uuid),
    Column("parent_path", Text(collation="C")),
    # Of a machine: where it stands, and how many events it has accepted.
    Column("state", Text),
    Column("inbox", Integer, nullable=False, server_default=text("0")),
    # Whether a failure undoes what was done; a step with `on_error: stop` says no.
    Column("rollback", Boolean, nullable=False, server_default=text("true")),
    Column("start_at", TIME),
    Column("deadline", TIME),
    # Seconds that it may take, as it was started with; the deadline is that from each time that it begins.
    Column("allowance", Float),
    # Since when nothing of it starts, at an operator's word.
    Column("paused_at", TIME),
    # Of a failed one: how often it was retried as a whole by itself, and when it will be again.
    Column("retries", Integer, nullable=False, server_default=text("0")),
    Column("retry_at", TIME),
    # The execution that it repeats a part of.
    Column("forked_from", Uuid),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("settled_at", TIME),
    # Of a purged one the row stays for its idempotency key.
    Column("purged_at", TIME),
    CheckConstraint(f"(status IN ({FINAL})) = (settled_at IS NOT NULL)", name="execution_final_iff_settled_at"),
    CheckConstraint("idempotency_key <> ''", name="execution_idempotency_key_not_empty"),
    Index(
        "execution_idempotency_key_unique",
        "tenant",
        "definition_name",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    CheckConstraint("(parent_id IS NULL) = (parent_path IS NULL)", name="execution_parent_has_path"),
    Index("execution_children", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    Index("execution_live", "id", postgresql_where=text(f"status NOT IN ({FINAL})")),
    Index(
        "execution_deadline",
        "deadline",
        postgresql_where=text("status IN ('created', 'running') AND deadline IS NOT NULL"),
    ),
    # Those that an incident may be about.
    Index(
        "execution_unlucky",
        "settled_at",
        postgresql_where=text("error IS NOT NULL OR status = 'compensation_failed'"),
    ),
    # What may be purged, the oldest first.
    Index("execution_settled", "settled_at", postgresql_where=text("settled_at IS NOT NULL AND purged_at IS NULL")),
    Index("execution_retry", "retry_at", postgresql_where=text("retry_at IS NOT NULL")),
    Index("execution_by_definition", "tenant", "definition_name", "id"),
    Index("execution_by_correlation", "tenant", "correlation_id", postgresql_where=text("correlation_id IS NOT NULL")),
)

#: A step of an execution, or the compensation of one. Rows appear when their first parent settles.
step = Table(
    "step",
    metadata,
    Column("execution_id", Uuid, nullable=False),
    # C collation: paths and owners are compared by byte, prefixes included.
    Column("path", Text(collation="C"), nullable=False),
    tenant_column(),
    Column("status", _step_status, nullable=False),
    # The path that this row is the compensation of.
    Column("undoes", Text(collation="C")),
    # Of a blocked row: all steps that must settle first, and, where that is not simply their success, [parent, exit]
    # of each edge, and how many must have succeeded (0: it does not matter; NULL: all that were not skipped).
    Column("parents", JSONB),
    Column("edges", JSONB),
    Column("need", Integer),
    Column("queue", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # The retry budget is counted apart from attempts, which only ever grow: they are fencing tokens.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("owner", Text(collation="C")),
    Column("halt", Boolean, nullable=False, server_default=text("false")),
    # Whether the activity's effect commits with the record: then an attempt without success left nothing behind.
    Column("transactional", Boolean, nullable=False, server_default=text("false")),
    Column("ready_xid", Xid8),
    Column("ready_at", TIME),
    Column("started_at", TIME),
    Column("due_at", TIME),
    Column("settled_at", TIME),
    Column("output", JSONB),
    Column("error", JSONB),
    # By which exit it ended (model/exits.py); NULL is the ordinary one. On a ready row `unmet`: it can only fail.
    Column("exit", Text),
    # Of a step that waits: for what (`body`, `child`, `signal`; NULL: for its time), and what it must remember.
    Column("awaits", Text),
    Column("wait_name", Text),
    Column("correlation", Text),
    Column("resume", JSONB),
    # What woke it: due, body, child, signal, or broken (its body or child has failed with `error`).
    Column("woken_by", Text),
    # Of a step that a drain cancelled: where it stood and what time it waited for, so that a retry can take it up.
    Column("was", Text),
    Column("was_due_at", TIME),
    # How many owners have died with it in their hands.
    Column("crashes", Integer, nullable=False, server_default=text("0")),
    # When the first of its failed attempts began: its budget of time counts from there.
    Column("failing_since", TIME),
    # What its attempt last told of how far it is.
    Column("progress", JSONB),
    PrimaryKeyConstraint("execution_id", "path", name="pk_step"),
    CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="step_running_iff_owned"),
    CheckConstraint(f"(status IN ({SETTLED})) = (settled_at IS NOT NULL)", name="step_settled_iff_settled_at"),
    CheckConstraint("status <> 'ready' OR ready_xid IS NOT NULL", name="step_ready_has_xid"),
    CheckConstraint("status <> 'retrying' OR due_at IS NOT NULL", name="step_retrying_has_due_at"),
    Index("step_open", "execution_id", postgresql_where=text(OPEN)),
    Index("step_blocked", "ready_at", postgresql_where=text("status = 'blocked'")),
    Index("step_owned", "owner", postgresql_where=text("status = 'running'")),
    Index("step_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    # Each statement that writes a step prepares the predicate of each index anew: so the shortest that will do.
    Index("step_waiting_for", "tenant", "wait_name", "correlation", postgresql_where=text("awaits IS NOT NULL")),
    Index("step_waiting", "ready_at", postgresql_where=text("awaits IS NOT NULL")),
    # What a compensation is followed by.
    Index("step_undo_next", "execution_id", "parents", postgresql_where=text("undoes IS NOT NULL")),
    # A machine's transitions: which time a step was last carried out.
    Index(
        "step_of_transition",
        "execution_id",
        text("substring(path FROM '[^/]*$')"),
        "ready_at",
        postgresql_where=text("strpos(path, '/') > 0"),
    ),
    Index("step_ready", "queue", "ready_at", postgresql_where=text("status = 'ready'")),
)

#: History, append-only. xid lets a reader resume after a snapshot without missing late commits.
event = Table(
    "event",
    metadata,
    Column("execution_id", Uuid, nullable=False),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    tenant_column(),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("type", Text, nullable=False),
    Column("path", Text(collation="C")),
    Column("attempt", Integer),
    Column("data", JSONB),
    Column("at", TIME, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("execution_id", "id", name="pk_event"),
)

#: A message sent behind a queue's ready steps: once consumed, what was ready before it and still is was lost.
probe = Table(
    "probe",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    tenant_column(),
    Column("queue", Text, nullable=False),
    Column("horizon", Snapshot, nullable=False, server_default=text("pg_current_snapshot()")),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("sent_at", TIME),
    Column("consumed_at", TIME),
    # How often it has come through its queue and left something behind.
    Column("passes", SmallInteger, nullable=False, server_default=text("0")),
    Index("probe_queue", "queue", unique=True),
)

#: A beat's fire: the insert decides which of several beats sends the message.
schedule_fire = Table(
    "schedule_fire",
    metadata,
    Column("schedule", Text, nullable=False),
    Column("fire_at", TIME, nullable=False),
    tenant_column(),
    PrimaryKeyConstraint("schedule", "fire_at", name="pk_schedule_fire"),
)

#: The guard of plain Celery tasks: one row a key.
idempotency_record = Table(
    "idempotency_record",
    metadata,
    tenant_column(),
    Column("scope", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("owner", Text(collation="C")),
    Column("output", JSONB),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("started_at", TIME, nullable=False, server_default=NOW),
    Column("settled_at", TIME),
    PrimaryKeyConstraint("tenant", "scope", "key", name="pk_idempotency_record"),
    CheckConstraint("status IN ('ready', 'running', 'succeeded')", name="idempotency_record_status_known"),
    CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="idempotency_record_running_iff_owned"),
    CheckConstraint(
        "(status = 'succeeded') = (settled_at IS NOT NULL)", name="idempotency_record_settled_iff_succeeded"
    ),
    Index("idempotency_record_owned", "owner", postgresql_where=text("status = 'running'")),
)

#: Secrets of connectors: the value is encrypted, with its tenant and name, by the first of the process's keys.
secret = Table(
    "secret",
    metadata,
    tenant_column(),
    Column("name", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("tenant", "name", name="pk_secret"),
    CheckConstraint("name <> ''", name="secret_name_not_empty"),
)
