"""First schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_datasets_create_time"), "datasets", ["create_time"], unique=False)
    op.create_table(
        "deleted_jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("delete_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_deleted_jobs_delete_time"), "deleted_jobs", ["delete_time"], unique=False)
    op.create_table(
        "requests",
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "request_id"),
    )
    op.create_index(op.f("ix_requests_create_time"), "requests", ["create_time"], unique=False)
    op.create_table(
        "runners",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("incarnation", sa.String(), nullable=False),
        sa.Column("framework", sa.String(), nullable=False),
        sa.Column("register", sa.LargeBinary(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("stopping", sa.Boolean(), nullable=False),
        sa.Column("connect_time", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_time", sa.BigInteger(), nullable=False),
        sa.Column("lease_expire_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_runners_framework"), "runners", ["framework"], unique=False)
    op.create_table(
        "shapes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("framework", sa.String(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("gpu_memory_mib", sa.BigInteger(), nullable=False),
        sa.Column("cpus", sa.Float(), nullable=False),
        sa.Column("selector", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_uploads_create_time"), "uploads", ["create_time"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("framework", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("shape_id", sa.Integer(), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempt_state", sa.String(), nullable=True),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("waiting_for", sa.Integer(), nullable=False),
        sa.Column("claimable", sa.Boolean(), nullable=False),
        sa.Column("order_key", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("progress", sa.LargeBinary(), nullable=False),
        sa.Column("reproducibility", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.Column("retried_from", sa.String(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("queue_time", sa.BigInteger(), nullable=True),
        sa.Column("queue_deadline", sa.BigInteger(), nullable=True),
        sa.Column("retry_time", sa.BigInteger(), nullable=True),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["shape_id"],
            ["shapes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("jobs_by_create_time", "jobs", ["create_time", "id"], unique=False)
    op.create_index("jobs_by_queue_deadline", "jobs", ["state", "queue_deadline"], unique=False)
    op.create_index("jobs_by_retry_time", "jobs", ["state", "retry_time"], unique=False)
    op.create_index(
        "jobs_by_shape",
        "jobs",
        ["shape_id", sa.literal_column("priority DESC"), "order_key", "id"],
        unique=False,
        sqlite_where=sa.text("claimable"),
        postgresql_where=sa.text("claimable"),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "create_time"], unique=False)
    op.create_index("jobs_by_update_time", "jobs", ["update_time", "id"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "path"),
    )
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("runner_id", sa.String(), nullable=False),
        sa.Column("incarnation", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("gpu_indices", sa.String(), nullable=False),
        sa.Column("progress_number", sa.BigInteger(), nullable=False),
        sa.Column("results_number", sa.BigInteger(), nullable=False),
        sa.Column("assign_time", sa.BigInteger(), nullable=False),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number"),
    )
    op.create_index("attempts_by_runner", "attempts", ["runner_id", "end_time"], unique=False)
    op.create_table(
        "dependencies",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("depends_on", sa.String(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "depends_on"),
    )
    op.create_index(op.f("ix_dependencies_depends_on"), "dependencies", ["depends_on"], unique=False)
    op.create_index(op.f("ix_dependencies_settled"), "dependencies", ["settled"], unique=False)
    op.create_table(
        "epochs",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("commit_time", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key"),
    )
    op.create_index("job_labels_by_value", "job_labels", ["key", "value"], unique=False)
    op.create_table(
        "predictions",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("image_index", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "image_index"),
        sa.UniqueConstraint("job_id", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reservations",
        sa.Column("runner_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["runner_id"], ["runners.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("runner_id"),
        sa.UniqueConstraint("job_id"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("reservations")
    op.drop_table("predictions")
    op.drop_index("job_labels_by_value", table_name="job_labels")
    op.drop_table("job_labels")
    op.drop_table("events")
    op.drop_table("epochs")
    op.drop_index(op.f("ix_dependencies_settled"), table_name="dependencies")
    op.drop_index(op.f("ix_dependencies_depends_on"), table_name="dependencies")
    op.drop_table("dependencies")
    op.drop_index("attempts_by_runner", table_name="attempts")
    op.drop_table("attempts")
    op.drop_table("artifacts")
    op.drop_index("jobs_by_update_time", table_name="jobs")
    op.drop_index("jobs_by_state", table_name="jobs")
    op.drop_index(
        "jobs_by_shape",
        table_name="jobs",
        sqlite_where=sa.text("claimable"),
        postgresql_where=sa.text("claimable"),
    )
    op.drop_index("jobs_by_retry_time", table_name="jobs")
    op.drop_index("jobs_by_queue_deadline", table_name="jobs")
    op.drop_index("jobs_by_create_time", table_name="jobs")
    op.drop_table("jobs")
    op.drop_index(op.f("ix_uploads_create_time"), table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("shapes")
    op.drop_index(op.f("ix_runners_framework"), table_name="runners")
    op.drop_table("runners")
    op.drop_index(op.f("ix_requests_create_time"), table_name="requests")
    op.drop_table("requests")
    op.drop_index(op.f("ix_deleted_jobs_delete_time"), table_name="deleted_jobs")
    op.drop_table("deleted_jobs")
    op.drop_index(op.f("ix_datasets_create_time"), table_name="datasets")
    op.drop_table("datasets")
