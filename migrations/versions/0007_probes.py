"""Probes that go through their queue twice. Releases before this one work on with the column unread."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The default is a constant: no row is rewritten."""
    op.execute("ALTER TABLE orchestrator.probe ADD COLUMN passes SMALLINT DEFAULT 0 NOT NULL")


def downgrade() -> None:
    """A probe that was to be sent once more counts as before."""
    op.execute("ALTER TABLE orchestrator.probe DROP COLUMN passes")
