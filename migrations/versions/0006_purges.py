"""Executions that were purged: of those with an idempotency key the row stays. Releases before this one work on."""

from __future__ import annotations

from alembic import op

from orchestrator.ledger.online import build_index

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The column has no default: no row is rewritten. The index is built beside working workers."""
    op.execute("ALTER TABLE orchestrator.execution ADD COLUMN IF NOT EXISTS purged_at TIMESTAMP WITH TIME ZONE")
    build_index(
        "execution_settled",
        "orchestrator.execution (settled_at) WHERE settled_at IS NOT NULL AND purged_at IS NULL",
    )


def downgrade() -> None:
    """What was purged stays so."""
    op.execute("DROP INDEX orchestrator.execution_settled")
    op.execute("ALTER TABLE orchestrator.execution DROP COLUMN purged_at")
