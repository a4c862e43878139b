"""Attempts that go on though their step was settled without them. Releases before this one note none."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table of its own: steps are written too often to carry another index."""
    op.execute("""
        CREATE TABLE orchestrator.straggler (
            execution_id UUID NOT NULL,
            path TEXT COLLATE "C" NOT NULL,
            owner TEXT COLLATE "C" NOT NULL,
            tenant TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            started_at TIMESTAMP WITH TIME ZONE NOT NULL,
            due_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT pk_straggler PRIMARY KEY (execution_id, path, owner)
        )
    """)


def downgrade() -> None:
    """Nobody waits for them any more."""
    op.execute("DROP TABLE orchestrator.straggler")
