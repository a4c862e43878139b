"""Executions that were purged: of those with an idempotency key the row stays. Releases before this one work on."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The index is built beside working workers: without a lock that keeps them waiting."""
    op.execute("ALTER TABLE orchestrator.execution ADD COLUMN purged_at TIMESTAMP WITH TIME ZONE")
    with op.get_context().autocommit_block():
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS execution_settled ON orchestrator.execution (settled_at) "
            "WHERE settled_at IS NOT NULL AND purged_at IS NULL"
        )


def downgrade() -> None:
    """What was purged stays so."""
    op.execute("DROP INDEX orchestrator.execution_settled")
    op.execute("ALTER TABLE orchestrator.execution DROP COLUMN purged_at")
