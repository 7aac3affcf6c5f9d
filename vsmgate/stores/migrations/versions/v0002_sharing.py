"""Sharing: by whom a job can be found, and who is connected to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_sharing"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; no job has a grant yet."""
    op.create_table(
        "shares",
        sa.Column("job_id", sa.String(26), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.Double),
    )
    op.create_index("shares_by_name", "shares", ["kind", "name"])
    op.create_table(
        "presence",
        sa.Column("process", sa.String(32), primary_key=True),
        sa.Column("job_id", sa.String(26), primary_key=True),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("presence_by_job", "presence", ["job_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("presence")
    op.drop_table("shares")
