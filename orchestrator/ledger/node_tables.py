"""The tables of worker nodes: who lives, and who is at work on what was settled without it."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.ledger.schema import NOW, TIME, metadata, tenant_column

#: One row a boot of a worker node. Its processes' owner names begin with its boot id.
worker = Table(
    "worker",
    metadata,
    Column("boot_id", Text(collation="C"), primary_key=True),
    tenant_column(),
    Column("name", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    # Process ids of the live pool children, so that a release lost while the database was down is caught.
    Column("children", ARRAY(Integer), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", TIME, nullable=False, server_default=NOW),
    Column("seen", TIME, nullable=False, server_default=NOW),
    # Since when it has been heard without a gap: only such a node may bury others.
    Column("alive_since", TIME, nullable=False, server_default=NOW),
    Column("buried_at", TIME),
    Column("stopped_at", TIME),
    # Since when it takes up nothing more, at an operator's word.
    Column("draining_at", TIME),
    Index("worker_standing", "seen", postgresql_where=text("buried_at IS NULL AND stopped_at IS NULL")),
)

#: Attempts that go on though their step was settled without them: see ledger/stragglers.py.
straggler = Table(
    "straggler",
    metadata,
    Column("execution_id", Uuid, nullable=False),
    Column("path", Text(collation="C"), nullable=False),
    Column("owner", Text(collation="C"), nullable=False),
    tenant_column(),
    Column("attempt", Integer, nullable=False),
    Column("started_at", TIME, nullable=False),
    # When its time is over; NULL: never.
    Column("due_at", TIME),
    PrimaryKeyConstraint("execution_id", "path", "owner", name="pk_straggler"),
)
