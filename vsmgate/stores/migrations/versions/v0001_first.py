"""The first schema: jobs, idempotency keys, tickets, the revision counter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and begin to count at 0."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("usecase", sa.Text, nullable=False),
        sa.Column("launcher", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("jobs_by_owner", "jobs", ["owner", "created_at", "id"])
    op.create_index("jobs_by_life", "jobs", ["live", "created_at"])
    op.create_index("jobs_by_revision", "jobs", ["revision"], unique=True)
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("job_id", sa.String(26), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("document", sa.Text),
    )
    op.create_index("idempotency_by_job", "idempotency", ["job_id"])
    op.create_table(
        "tickets",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "revision", "value": 0}])


def downgrade() -> None:
    """Drop everything."""
    for table in ("counters", "tickets", "idempotency", "jobs"):
        op.drop_table(table)
