"""The ledger: definitions, executions, steps, events, and what workers and sweeps need."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE DOMAIN orchestrator.execution_status AS TEXT CONSTRAINT execution_status_known CHECK (VALUE IN ('cancelled', 'cancelling', 'compensated', 'compensating', 'compensation_failed', 'created', 'failed', 'failing', 'paused', 'pausing', 'running', 'succeeded', 'timed_out', 'timing_out'));

CREATE DOMAIN orchestrator.step_status AS TEXT CONSTRAINT step_status_known CHECK (VALUE IN ('blocked', 'cancelled', 'failed', 'ready', 'retrying', 'running', 'skipped', 'succeeded', 'timed_out', 'waiting'));

CREATE TABLE orchestrator.definition (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    status TEXT DEFAULT 'published' NOT NULL,
    spec JSONB NOT NULL,
    checksum TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_definition PRIMARY KEY (id),
    CONSTRAINT definition_status_known CHECK (status IN ('draft', 'published', 'retired')),
    CONSTRAINT definition_version_positive CHECK (version >= 1)
);

CREATE UNIQUE INDEX definition_version_unique ON orchestrator.definition (tenant, name, version);

CREATE TABLE orchestrator.event (
    execution_id UUID NOT NULL,
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant TEXT NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    type TEXT NOT NULL,
    path TEXT COLLATE "C",
    attempt INTEGER,
    data JSONB,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_event PRIMARY KEY (execution_id, id)
);

CREATE TABLE orchestrator.idempotency_record (
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    input_hash TEXT NOT NULL,
    attempt INTEGER DEFAULT 1 NOT NULL,
    owner TEXT COLLATE "C",
    output JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_idempotency_record PRIMARY KEY (tenant, scope, key),
    CONSTRAINT idempotency_record_status_known CHECK (status IN ('ready', 'running', 'succeeded')),
    CONSTRAINT idempotency_record_running_iff_owned CHECK ((status = 'running') = (owner IS NOT NULL)),
    CONSTRAINT idempotency_record_settled_iff_succeeded CHECK ((status = 'succeeded') = (settled_at IS NOT NULL))
);

CREATE INDEX idempotency_record_owned ON orchestrator.idempotency_record (owner) WHERE status = 'running';

CREATE TABLE orchestrator.probe (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant TEXT NOT NULL,
    queue TEXT NOT NULL,
    horizon pg_snapshot DEFAULT pg_current_snapshot() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    sends INTEGER DEFAULT 0 NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE,
    consumed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_probe PRIMARY KEY (id)
);

CREATE UNIQUE INDEX probe_queue ON orchestrator.probe (queue);

CREATE TABLE orchestrator.schedule_fire (
    schedule TEXT NOT NULL,
    fire_at TIMESTAMP WITH TIME ZONE NOT NULL,
    tenant TEXT NOT NULL,
    CONSTRAINT pk_schedule_fire PRIMARY KEY (schedule, fire_at)
);

CREATE TABLE orchestrator.step (
    execution_id UUID NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    tenant TEXT NOT NULL,
    status orchestrator.step_status NOT NULL,
    undoes TEXT COLLATE "C",
    parents JSONB,
    queue TEXT NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    failures INTEGER DEFAULT 0 NOT NULL,
    owner TEXT COLLATE "C",
    halt BOOLEAN DEFAULT false NOT NULL,
    transactional BOOLEAN DEFAULT false NOT NULL,
    ready_xid xid8,
    ready_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    due_at TIMESTAMP WITH TIME ZONE,
    settled_at TIMESTAMP WITH TIME ZONE,
    output JSONB,
    error JSONB,
    CONSTRAINT pk_step PRIMARY KEY (execution_id, path),
    CONSTRAINT step_running_iff_owned CHECK ((status = 'running') = (owner IS NOT NULL)),
    CONSTRAINT step_settled_iff_settled_at CHECK ((status IN ('cancelled', 'failed', 'skipped', 'succeeded', 'timed_out')) = (settled_at IS NOT NULL)),
    CONSTRAINT step_ready_has_xid CHECK (status <> 'ready' OR ready_xid IS NOT NULL),
    CONSTRAINT step_retrying_has_due_at CHECK (status <> 'retrying' OR due_at IS NOT NULL)
);

CREATE INDEX step_blocked ON orchestrator.step (ready_at) WHERE status = 'blocked';

CREATE INDEX step_due ON orchestrator.step (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX step_open ON orchestrator.step (execution_id) WHERE settled_at IS NULL;

CREATE INDEX step_owned ON orchestrator.step (owner) WHERE status = 'running';

CREATE INDEX step_ready ON orchestrator.step (queue, ready_at) WHERE status = 'ready';

CREATE TABLE orchestrator.worker (
    boot_id TEXT COLLATE "C" NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    queues TEXT[] NOT NULL,
    children INTEGER[] NOT NULL,
    pid INTEGER NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    seen TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    alive_since TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    buried_at TIMESTAMP WITH TIME ZONE,
    stopped_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_worker PRIMARY KEY (boot_id)
);

CREATE INDEX worker_standing ON orchestrator.worker (seen) WHERE buried_at IS NULL AND stopped_at IS NULL;

CREATE TABLE orchestrator.execution (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    definition_id UUID NOT NULL,
    definition_name TEXT NOT NULL,
    definition_version INTEGER NOT NULL,
    status orchestrator.execution_status NOT NULL,
    input JSONB NOT NULL,
    input_hash TEXT NOT NULL,
    output JSONB,
    error JSONB,
    idempotency_key TEXT,
    correlation_id TEXT,
    labels JSONB DEFAULT '{}'::jsonb NOT NULL,
    actor TEXT,
    start_at TIMESTAMP WITH TIME ZONE,
    deadline TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_execution PRIMARY KEY (id),
    CONSTRAINT execution_final_iff_settled_at CHECK ((status IN ('cancelled', 'compensated', 'compensation_failed', 'failed', 'succeeded', 'timed_out')) = (settled_at IS NOT NULL)),
    CONSTRAINT execution_idempotency_key_not_empty CHECK (idempotency_key <> ''),
    CONSTRAINT execution_definition FOREIGN KEY(definition_id) REFERENCES orchestrator.definition (id)
);

CREATE INDEX execution_by_correlation ON orchestrator.execution (tenant, correlation_id) WHERE correlation_id IS NOT NULL;

CREATE INDEX execution_by_definition ON orchestrator.execution (tenant, definition_name, id);

CREATE INDEX execution_deadline ON orchestrator.execution (deadline) WHERE status IN ('created', 'running') AND deadline IS NOT NULL;

CREATE UNIQUE INDEX execution_idempotency_key_unique ON orchestrator.execution (tenant, definition_name, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE INDEX execution_live ON orchestrator.execution (id) WHERE status NOT IN ('cancelled', 'compensated', 'compensation_failed', 'failed', 'succeeded', 'timed_out')
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        "DROP TABLE orchestrator.execution, orchestrator.worker, orchestrator.step, orchestrator.schedule_fire, "
        "orchestrator.probe, orchestrator.idempotency_record, orchestrator.event, orchestrator.definition"
    )
    op.execute("DROP DOMAIN orchestrator.step_status, orchestrator.execution_status")
