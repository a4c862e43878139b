"""Exits, bodies, waits, signals, children and machines."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE orchestrator.execution
    ADD COLUMN parent_id UUID,
    ADD COLUMN parent_path TEXT COLLATE "C",
    ADD COLUMN state TEXT,
    ADD COLUMN inbox INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN rollback BOOLEAN DEFAULT true NOT NULL,
    ADD CONSTRAINT execution_parent_has_path CHECK ((parent_id IS NULL) = (parent_path IS NULL));

CREATE INDEX execution_children ON orchestrator.execution (parent_id) WHERE parent_id IS NOT NULL;

ALTER TABLE orchestrator.step
    ADD COLUMN edges JSONB,
    ADD COLUMN need INTEGER,
    ADD COLUMN exit TEXT,
    ADD COLUMN awaits TEXT,
    ADD COLUMN wait_name TEXT,
    ADD COLUMN correlation TEXT,
    ADD COLUMN resume JSONB,
    ADD COLUMN woken_by TEXT;

CREATE INDEX step_waiting_for ON orchestrator.step (tenant, wait_name, correlation) WHERE awaits IS NOT NULL;

CREATE INDEX step_waiting ON orchestrator.step (ready_at) WHERE awaits IS NOT NULL;

CREATE INDEX step_undo_next ON orchestrator.step (execution_id, parents) WHERE undoes IS NOT NULL;

CREATE INDEX step_of_transition ON orchestrator.step (execution_id, substring(path FROM '[^/]*$'), ready_at)
    WHERE strpos(path, '/') > 0;

CREATE TABLE orchestrator.signal (
    id UUID NOT NULL,
    tenant TEXT NOT NULL,
    execution_id UUID,
    name TEXT NOT NULL,
    correlation TEXT,
    dedup_id TEXT,
    payload JSONB NOT NULL,
    actor TEXT,
    roles JSONB DEFAULT '[]'::jsonb NOT NULL,
    moves BOOLEAN DEFAULT false NOT NULL,
    taken BOOLEAN DEFAULT false NOT NULL,
    leads_to TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_signal PRIMARY KEY (id),
    CONSTRAINT signal_addressed CHECK (execution_id IS NOT NULL OR correlation IS NOT NULL)
);

CREATE UNIQUE INDEX signal_dedup_unique
    ON orchestrator.signal (tenant, coalesce(execution_id::text, 'correlation ' || correlation), name, dedup_id)
    WHERE dedup_id IS NOT NULL;

CREATE INDEX signal_inbox ON orchestrator.signal (execution_id, id) WHERE execution_id IS NOT NULL AND NOT taken;

CREATE INDEX signal_events ON orchestrator.signal (tenant, name, correlation, id) WHERE execution_id IS NULL;

CREATE TABLE orchestrator.signal_delivery (
    signal_id UUID NOT NULL,
    execution_id UUID NOT NULL,
    tenant TEXT NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    CONSTRAINT pk_signal_delivery PRIMARY KEY (execution_id, signal_id)
)
"""

DOWNGRADE = """
DROP TABLE orchestrator.signal_delivery, orchestrator.signal;

DROP INDEX orchestrator.step_undo_next,
    orchestrator.step_of_transition,
    orchestrator.step_waiting_for,
    orchestrator.step_waiting,
    orchestrator.execution_children;

ALTER TABLE orchestrator.step
    DROP COLUMN edges, DROP COLUMN need, DROP COLUMN exit, DROP COLUMN awaits, DROP COLUMN wait_name,
    DROP COLUMN correlation, DROP COLUMN resume, DROP COLUMN woken_by;

ALTER TABLE orchestrator.execution
    DROP CONSTRAINT execution_parent_has_path,
    DROP COLUMN parent_id, DROP COLUMN parent_path, DROP COLUMN state, DROP COLUMN inbox,
    DROP COLUMN rollback
"""


def upgrade() -> None:
    op.execute(UPGRADE.replace("::", "\\:\\:"))


def downgrade() -> None:
    op.execute(DOWNGRADE)
