"""The tables.

Messages that users or runners gave are kept as serialized protobuf, so that fields that this
version does not know survive; what is searched, ordered or guarded by has a column of its own.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """A moment as whole microseconds since 1970 UTC: exact, and ordered in any database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """A moment to an integer."""
        return None if value is None else micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """An integer to a moment."""
        return None if value is None else instant(value)


def micros(moment: datetime) -> int:
    """Whole microseconds since 1970 UTC."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def instant(value: int) -> datetime:
    """The moment `value` microseconds after 1970 UTC."""
    return datetime.fromtimestamp(value // 1_000_000, UTC).replace(microsecond=value % 1_000_000)


metadata = MetaData()

shapes = Table(
    "shapes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("framework", String, nullable=False),
    Column("gpus", Integer, nullable=False),
    Column("gpu_memory_mib", BigInteger, nullable=False),
    Column("cpus", Float, nullable=False),
    Column("selector", String, nullable=False),  # JSON object
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("framework", String, nullable=False),
    Column("display_name", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("shape_id", ForeignKey("shapes.id"), nullable=False),
    Column("spec", LargeBinary, nullable=False),  # Job, as accepted, without output
    Column("state", String, nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("attempt_state", String),
    Column("failure_count", Integer, nullable=False, default=0),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("waiting_for", Integer, nullable=False, default=0),
    Column("claimable", Boolean, nullable=False, default=False),  # QUEUED without live attempt
    Column("order_key", BigInteger, nullable=False, default=0),
    Column("sequence", BigInteger, nullable=False, default=0),
    Column("progress", LargeBinary, nullable=False, default=b""),  # JobProgress
    Column("reproducibility", LargeBinary, nullable=False, default=b""),  # Reproducibility
    Column("result", LargeBinary),  # Result
    Column("error", LargeBinary),  # google.rpc.Status
    Column("trace_id", String, nullable=False),
    Column("retried_from", String, nullable=False, default=""),
    Column("create_time", Instant, nullable=False),
    Column("queue_time", Instant),
    Column("queue_deadline", Instant),
    Column("retry_time", Instant),
    Column("start_time", Instant),
    Column("end_time", Instant),
    Column("update_time", Instant, nullable=False),
)
Index(
    "jobs_by_shape",
    jobs.c.shape_id,
    jobs.c.priority.desc(),
    jobs.c.order_key,
    jobs.c.id,
    sqlite_where=jobs.c.claimable,
    postgresql_where=jobs.c.claimable,
)
Index("jobs_by_create_time", jobs.c.create_time, jobs.c.id)
Index("jobs_by_update_time", jobs.c.update_time, jobs.c.id)
Index("jobs_by_state", jobs.c.state, jobs.c.create_time)
Index("jobs_by_retry_time", jobs.c.state, jobs.c.retry_time)
Index("jobs_by_queue_deadline", jobs.c.state, jobs.c.queue_deadline)

job_labels = Table(
    "job_labels",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)
Index("job_labels_by_value", job_labels.c.key, job_labels.c.value)

deleted_jobs = Table(
    "deleted_jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("delete_time", Instant, nullable=False, index=True),
)

dependencies = Table(
    "dependencies",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("depends_on", String, primary_key=True, index=True),
    Column("settled", Boolean, nullable=False, index=True),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("runner_id", String, nullable=False),
    Column("incarnation", String, nullable=False),
    Column("state", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("error", LargeBinary),  # google.rpc.Status
    Column("gpu_indices", String, nullable=False),  # comma-separated
    Column("progress_number", BigInteger, nullable=False, default=0),
    Column("results_number", BigInteger, nullable=False, default=0),
    Column("assign_time", Instant, nullable=False),
    Column("start_time", Instant),
    Column("end_time", Instant),
)
Index("attempts_by_runner", attempts.c.runner_id, attempts.c.end_time)

events = Table(
    "events",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("kind", String, nullable=False),  # name of ProgressUpdate's oneof
    Column("commit_time", Instant, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # ProgressUpdate
    sqlite_with_rowid=False,
)

epochs = Table(
    "epochs",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # EpochCompleted
    sqlite_with_rowid=False,
)

predictions = Table(
    "predictions",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("image_index", BigInteger, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # ImagePrediction
    UniqueConstraint("job_id", "sequence"),
    sqlite_with_rowid=False,
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String, primary_key=True),
    Column("key", String, nullable=False),  # in the artifact store
    Column("payload", LargeBinary, nullable=False),  # Artifact
)

runners = Table(
    "runners",
    metadata,
    Column("id", String, primary_key=True),
    Column("incarnation", String, nullable=False),
    Column("framework", String, nullable=False, index=True),
    Column("register", LargeBinary, nullable=False),  # Register
    Column("connected", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),  # by an operator; survives restarts
    Column("stopping", Boolean, nullable=False),  # by the runner itself
    Column("connect_time", Instant, nullable=False),
    Column("heartbeat_time", Instant, nullable=False),
    Column("lease_expire_time", Instant, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("runner_id", ForeignKey("runners.id", ondelete="CASCADE"), primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("create_time", Instant, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # Dataset
    Column("create_time", Instant, nullable=False, index=True),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False),  # in the dataset store
    Column("payload", LargeBinary, nullable=False),  # Upload
    Column("create_time", Instant, nullable=False, index=True),
)

listed_images = Table(
    "listed_images",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("payload", LargeBinary, nullable=False),  # ImageUris
)

media_items = Table(
    "media_items",
    metadata,
    Column("id", String, primary_key=True),  # as the media store gives it
    Column("state", String, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("content_type", String, nullable=False),
    Column("error", LargeBinary),  # google.rpc.Status
    Column("sync_time", Instant),
    Column("job_id", String, nullable=False),  # may be deleted
)
Index("media_items_by_state", media_items.c.state, media_items.c.id)

requests = Table(
    "requests",
    metadata,
    Column("owner", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("fingerprint", String, nullable=False),  # SHA-256 of the request
    Column("resource", String, nullable=False),
    Column("create_time", Instant, nullable=False, index=True),
)
