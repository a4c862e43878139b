"""Operators' commands, incidents, what attempts say and keep."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE orchestrator.execution
    ADD COLUMN paused_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN retries INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN retry_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN forked_from UUID,
    ADD COLUMN allowance FLOAT;

UPDATE orchestrator.execution SET allowance = extract(epoch FROM deadline - greatest(start_at, created_at))
    WHERE deadline IS NOT NULL;

CREATE INDEX execution_retry ON orchestrator.execution (retry_at) WHERE retry_at IS NOT NULL;

CREATE INDEX execution_unlucky ON orchestrator.execution (settled_at)
    WHERE error IS NOT NULL OR status = 'compensation_failed';

ALTER TABLE orchestrator.step
    ADD COLUMN was TEXT,
    ADD COLUMN was_due_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN crashes INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN failing_since TIMESTAMP WITH TIME ZONE,
    ADD COLUMN progress JSONB;

CREATE TABLE orchestrator.audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    actor TEXT NOT NULL,
    command TEXT NOT NULL,
    execution_id UUID,
    path TEXT COLLATE "C",
    reason TEXT,
    parameters JSONB DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (id)
);

CREATE INDEX audit_of_execution ON orchestrator.audit (execution_id, id) WHERE execution_id IS NOT NULL;

CREATE TABLE orchestrator.maintenance (
    tenant TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    since TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_maintenance PRIMARY KEY (tenant)
);

CREATE TABLE orchestrator.incident (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    title TEXT NOT NULL,
    detail JSONB DEFAULT '{}'::jsonb NOT NULL,
    count INTEGER DEFAULT 1 NOT NULL,
    assignee TEXT,
    opened_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_by TEXT,
    reason TEXT,
    CONSTRAINT pk_incident PRIMARY KEY (id),
    CONSTRAINT incident_closed_by_somebody CHECK ((closed_at IS NULL) = (closed_by IS NULL))
);

CREATE UNIQUE INDEX incident_open_unique ON orchestrator.incident (tenant, kind, fingerprint) WHERE closed_at IS NULL;

CREATE TABLE orchestrator.incident_subject (
    incident_id UUID NOT NULL,
    execution_id UUID NOT NULL,
    tenant TEXT NOT NULL,
    path TEXT COLLATE "C" DEFAULT '' NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_incident_subject PRIMARY KEY (incident_id, execution_id, path)
);

CREATE INDEX incident_subject_execution ON orchestrator.incident_subject (execution_id);

CREATE TABLE orchestrator.side_effect (
    execution_id UUID NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    value JSONB NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_side_effect PRIMARY KEY (execution_id, path, name)
);

CREATE TABLE orchestrator.attempt_log (
    execution_id UUID NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    level SMALLINT NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    fields JSONB,
    CONSTRAINT pk_attempt_log PRIMARY KEY (execution_id, path, attempt, number)
)
"""

DOWNGRADE = """
DROP TABLE orchestrator.audit, orchestrator.maintenance, orchestrator.incident, orchestrator.incident_subject,
    orchestrator.side_effect, orchestrator.attempt_log;

DROP INDEX orchestrator.execution_retry, orchestrator.execution_unlucky;

ALTER TABLE orchestrator.step
    DROP COLUMN was, DROP COLUMN was_due_at, DROP COLUMN crashes, DROP COLUMN failing_since,
    DROP COLUMN progress;

ALTER TABLE orchestrator.execution
    DROP COLUMN paused_at, DROP COLUMN retries, DROP COLUMN retry_at, DROP COLUMN forked_from,
    DROP COLUMN allowance
"""


def upgrade() -> None:
    op.execute(UPGRADE.replace("::", "\\:\\:"))


def downgrade() -> None:
    op.execute(DOWNGRADE)
