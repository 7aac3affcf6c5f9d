"""Quotas of groups, and revocations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before count against no group."""
    op.add_column("jobs", sa.Column("groups", sa.Text, nullable=False, server_default="[]"))
    op.create_table(
        "revocations",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("revoked_at", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("revocations")
    op.drop_column("jobs", "groups")
