"""Worker nodes that are told to take up no more. Releases before this one work on with the column unread."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Without a default: no row is rewritten, and the lock is held for a moment."""
    op.execute("ALTER TABLE orchestrator.worker ADD COLUMN draining_at TIMESTAMP WITH TIME ZONE")


def downgrade() -> None:
    """The nodes that drain go on."""
    op.execute("ALTER TABLE orchestrator.worker DROP COLUMN draining_at")
