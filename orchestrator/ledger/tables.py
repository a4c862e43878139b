"""The ledger's tables. `migrations/` builds them; a test compares the two.

Why no foreign key leads from step or event to execution: its check locks the execution's row on every insert, and
parallel branches would meet there. The statements guard existence themselves: a row is inserted from a row found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN, JSONB
from sqlalchemy.types import UserDefinedType

from orchestrator.model.state import FINAL_EXECUTIONS, SETTLED_STEPS, ExecutionStatus, StepStatus

SCHEMA = "orchestrator"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)


class Xid8(UserDefinedType[str]):
    """A 64-bit transaction id: comparable with snapshots, never reused."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class Snapshot(UserDefinedType[str]):
    """Which transactions were visible at a moment (pg_snapshot)."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "pg_snapshot"


def sql_list(values: Iterable[str]) -> str:
    """'a', 'b': constants of our own for the inside of IN (...)."""
    return ", ".join(f"'{value}'" for value in sorted(values))


#: An open step. `step_settled_iff_settled_at` makes it the same as a list of the open statuses, which would cost every
#: insert and update the parsing of that list again, wherever it stands in an index.
OPEN = "settled_at IS NULL"
SETTLED = sql_list(SETTLED_STEPS)
FINAL = sql_list(FINAL_EXECUTIONS)

_now = text("clock_timestamp()")
_time = DateTime(timezone=True)


def _status(name: str, values: Iterable[str]) -> DOMAIN:
    """A domain: its check is kept parsed for the session, where a CHECK constraint is parsed by every statement."""
    check = f"VALUE IN ({sql_list(values)})"
    return DOMAIN(name, Text(), check=check, constraint_name=f"{name}_known", metadata=metadata)


_execution_status = _status("execution_status", ExecutionStatus)
_step_status = _status("step_status", StepStatus)


def _tenant() -> Column[str]:
    return Column("tenant", Text, nullable=False)


definition = Table(
    "definition",
    metadata,
    Column("id", Uuid, primary_key=True),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'published'")),
    Column("spec", JSONB, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("created_at", _time, nullable=False, server_default=_now),
    CheckConstraint("status IN ('draft', 'published', 'retired')", name="definition_status_known"),
    CheckConstraint("version >= 1", name="definition_version_positive"),
    Index("definition_version_unique", "tenant", "name", "version", unique=True),
)

execution = Table(
    "execution",
    metadata,
    Column("id", Uuid, primary_key=True),
    _tenant(),
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
    Column("start_at", _time),
    Column("deadline", _time),
    Column("created_at", _time, nullable=False, server_default=_now),
    Column("settled_at", _time),
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
    Index("execution_live", "id", postgresql_where=text(f"status NOT IN ({FINAL})")),
    Index(
        "execution_deadline",
        "deadline",
        postgresql_where=text("status IN ('created', 'running') AND deadline IS NOT NULL"),
    ),
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
    _tenant(),
    Column("status", _step_status, nullable=False),
    # The path that this row is the compensation of.
    Column("undoes", Text(collation="C")),
    # Of a blocked row: all steps that must settle first.
    Column("parents", JSONB),
    Column("queue", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # The retry budget is counted apart from attempts, which only ever grow: they are fencing tokens.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("owner", Text(collation="C")),
    Column("halt", Boolean, nullable=False, server_default=text("false")),
    # Whether the activity's effect commits with the record: then an attempt without success left nothing behind.
    Column("transactional", Boolean, nullable=False, server_default=text("false")),
    Column("ready_xid", Xid8),
    Column("ready_at", _time),
    Column("started_at", _time),
    Column("due_at", _time),
    Column("settled_at", _time),
    Column("output", JSONB),
    Column("error", JSONB),
    PrimaryKeyConstraint("execution_id", "path", name="pk_step"),
    CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="step_running_iff_owned"),
    CheckConstraint(f"(status IN ({SETTLED})) = (settled_at IS NOT NULL)", name="step_settled_iff_settled_at"),
    CheckConstraint("status <> 'ready' OR ready_xid IS NOT NULL", name="step_ready_has_xid"),
    CheckConstraint("status <> 'retrying' OR due_at IS NOT NULL", name="step_retrying_has_due_at"),
    Index("step_open", "execution_id", postgresql_where=text(OPEN)),
    Index("step_blocked", "ready_at", postgresql_where=text("status = 'blocked'")),
    Index("step_owned", "owner", postgresql_where=text("status = 'running'")),
    Index("step_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("step_ready", "queue", "ready_at", postgresql_where=text("status = 'ready'")),
)

#: History, append-only. xid lets a reader resume after a snapshot without missing late commits.
event = Table(
    "event",
    metadata,
    Column("execution_id", Uuid, nullable=False),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    _tenant(),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("type", Text, nullable=False),
    Column("path", Text(collation="C")),
    Column("attempt", Integer),
    Column("data", JSONB),
    Column("at", _time, nullable=False, server_default=_now),
    PrimaryKeyConstraint("execution_id", "id", name="pk_event"),
)

#: One row a boot of a worker node. Its processes' owner names begin with its boot id.
worker = Table(
    "worker",
    metadata,
    Column("boot_id", Text(collation="C"), primary_key=True),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    # Process ids of the live pool children, so that a release lost while the database was down is caught.
    Column("children", ARRAY(Integer), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", _time, nullable=False, server_default=_now),
    Column("seen", _time, nullable=False, server_default=_now),
    # Since when it has been heard without a gap: only such a node may bury others.
    Column("alive_since", _time, nullable=False, server_default=_now),
    Column("buried_at", _time),
    Column("stopped_at", _time),
    Index("worker_standing", "seen", postgresql_where=text("buried_at IS NULL AND stopped_at IS NULL")),
)

#: A message sent behind a queue's ready steps: once consumed, what was ready before it and still is was lost.
probe = Table(
    "probe",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    Column("queue", Text, nullable=False),
    Column("horizon", Snapshot, nullable=False, server_default=text("pg_current_snapshot()")),
    Column("created_at", _time, nullable=False, server_default=_now),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("sent_at", _time),
    Column("consumed_at", _time),
    Index("probe_queue", "queue", unique=True),
)

#: A beat's fire: the insert decides which of several beats sends the message.
schedule_fire = Table(
    "schedule_fire",
    metadata,
    Column("schedule", Text, nullable=False),
    Column("fire_at", _time, nullable=False),
    _tenant(),
    PrimaryKeyConstraint("schedule", "fire_at", name="pk_schedule_fire"),
)

#: The guard of plain Celery tasks: one row a key.
idempotency_record = Table(
    "idempotency_record",
    metadata,
    _tenant(),
    Column("scope", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("owner", Text(collation="C")),
    Column("output", JSONB),
    Column("created_at", _time, nullable=False, server_default=_now),
    Column("started_at", _time, nullable=False, server_default=_now),
    Column("settled_at", _time),
    PrimaryKeyConstraint("tenant", "scope", "key", name="pk_idempotency_record"),
    CheckConstraint("status IN ('ready', 'running', 'succeeded')", name="idempotency_record_status_known"),
    CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="idempotency_record_running_iff_owned"),
    CheckConstraint(
        "(status = 'succeeded') = (settled_at IS NOT NULL)", name="idempotency_record_settled_iff_succeeded"
    ),
    Index("idempotency_record_owned", "owner", postgresql_where=text("status = 'running'")),
)
