"""Images of the external media store."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "media_items",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("sync_time", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("media_items_by_state", "media_items", ["state", "id"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_index("media_items_by_state", table_name="media_items")
    op.drop_table("media_items")
