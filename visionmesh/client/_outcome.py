"""How a job can end, and what is raised about it."""

from dataclasses import dataclass, field

import grpc

from visionmesh.errors import MeshError, Reason, error_of
from visionmesh.v1 import job_pb2, vision_pb2

TERMINAL_STATES = frozenset(
    {vision_pb2.JOB_STATE_SUCCEEDED, vision_pb2.JOB_STATE_FAILED, vision_pb2.JOB_STATE_CANCELLED}
)
"""States that a job never leaves."""


@dataclass
class JobFailed(MeshError):
    """A job has ended, and not well: code, reason and message say why."""

    job: job_pb2.Job = field(default_factory=job_pb2.Job)
    """The job as it ended: FAILED, or CANCELLED with reason JOB_CANCELLED."""


def check_succeeded(job: job_pb2.Job) -> job_pb2.Job:
    """The job itself; raises JobFailed if it did not succeed."""
    if job.state == vision_pb2.JOB_STATE_SUCCEEDED:
        return job
    if job.state == vision_pb2.JOB_STATE_CANCELLED:
        message = f"{job.name} was cancelled. What it had done by then is kept; retry it to begin again."
        raise JobFailed(grpc.StatusCode.CANCELLED, Reason.JOB_CANCELLED, message, job=job)
    stored = error_of(job.error)
    raise JobFailed(
        stored.code, stored.reason, f"{job.name} failed: {stored.message}", stored.metadata, job=job
    )


def not_ended(name: str, timeout: float | None) -> MeshError:
    """DEADLINE_EXCEEDED: somebody waited `timeout` seconds for a job that has not ended."""
    message = f"{name} has not ended within {timeout:g} s; it goes on. Wait longer, or cancel it."
    return MeshError(
        grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message, {"job": name}, from_mesh=False
    )
