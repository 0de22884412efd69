"""Why a job is where it is."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from scheduler.core.placement import PERMANENT, Node, Obstacle, Shape, obstacles
from scheduler.store import claims
from scheduler.store.engine import Connection
from scheduler.store.jobs import shape_of
from scheduler.store.schema import dependencies, jobs, runners, shapes
from visionmesh import names
from visionmesh.v1 import job_pb2, vision_pb2

_WORDS = {
    Obstacle.OFFLINE: "is not connected",
    Obstacle.DRAINING: "is being drained (undrain it, and it takes jobs again)",
    Obstacle.FRAMEWORK: "runs another framework",
    Obstacle.SELECTOR: "lacks a label that the job selects by",
    Obstacle.PRETRAINED: "is not allowed to fetch published weights (start it with --pretrained)",
    Obstacle.SLOTS: "has no free slot",
    Obstacle.GPUS: "has not enough free GPUs",
    Obstacle.GPU_MEMORY: "has not enough memory on its free GPUs",
    Obstacle.CPUS: "has not enough free CPU cores",
    Obstacle.RESERVED: "is being kept free for a job that has waited for longer",
}

_MENDED_AT_RUNNER = {Obstacle.OFFLINE, Obstacle.PRETRAINED}
"""What can be mended by starting the runner, or by starting it otherwise."""

_SHOWN_RUNNERS = 3


async def explain(connection: Connection, job: job_pb2.Job, now: datetime) -> job_pb2.ExplainJobResponse:
    """Everything that is known of why `job` is where it is."""
    answer = job_pb2.ExplainJobResponse(state=job.state, queue_position=-1)
    if job.state == vision_pb2.JOB_STATE_PENDING:
        await _explain_pending(connection, job, answer)
    elif job.state == vision_pb2.JOB_STATE_QUEUED:
        await _explain_queued(connection, job, answer, now)
    else:
        answer.summary = _under_way_or_over(job)
    return answer


def _under_way_or_over(job: job_pb2.Job) -> str:
    if job.state == vision_pb2.JOB_STATE_RUNNING:
        where = f"on {job.attempts[-1].runner}, attempt {job.attempt}"
        return f"The job is stopping {where}." if job.cancel_requested else f"The job is running {where}."
    if job.state == vision_pb2.JOB_STATE_FAILED:
        return f"The job has failed in attempt {job.attempt}: {job.error.message}"
    if job.state == vision_pb2.JOB_STATE_CANCELLED:
        return "The job was cancelled; what it found until then is kept."
    return f"The job has succeeded in attempt {job.attempt}."


async def _explain_pending(
    connection: Connection, job: job_pb2.Job, answer: job_pb2.ExplainJobResponse
) -> None:
    query = (
        select(dependencies.c.depends_on, jobs.c.state)
        .select_from(dependencies.outerjoin(jobs, jobs.c.id == dependencies.c.depends_on))
        .where(dependencies.c.job_id == names.job_id(job.name), dependencies.c.settled.is_(False))
        .order_by(dependencies.c.depends_on)
    )
    for depends_on, state in (await connection.execute(query)).all():
        name = names.job_name(depends_on)
        _wait(answer, "DEPENDENCY", f"{name} is {state} and must have SUCCEEDED", name)
    if job.HasField("retry_time"):
        text = f"a failed attempt is followed by a pause (failures: {job.failure_count})"
        _wait(answer, "BACKOFF", text, "", job.retry_time)
    answer.summary = "The job waits: " + "; ".join(reason.message for reason in answer.waiting_for) + "."


async def _explain_queued(
    connection: Connection, job: job_pb2.Job, answer: job_pb2.ExplainJobResponse, now: datetime
) -> None:
    if job.attempts and job.attempts[-1].state in {
        vision_pb2.ATTEMPT_STATE_ASSIGNED,
        vision_pb2.ATTEMPT_STATE_PREPARING,
    }:
        runner = job.attempts[-1].runner
        _wait(answer, "ASSIGNMENT", f"{runner} is preparing it", runner)
        answer.queue_position = 0
        answer.summary = f"The job is given to {runner}, which fetches its inputs."
        return
    capable = await _judge_runners(connection, job, shape_of(job), answer, now)
    answer.queue_position = await _position(connection, job, capable)
    _say_what_is_missing(answer, {node.name for node in capable})
    ahead = {0: "it is next", 1: "1 job is ahead of it"}.get(
        answer.queue_position, f"{answer.queue_position} jobs are ahead of it"
    )
    answer.summary = f"The job is queued, {ahead}: {answer.waiting_for[-1].message}."


def _say_what_is_missing(answer: job_pb2.ExplainJobResponse, capable: set[str]) -> None:
    busy = [verdict.message for verdict in answer.runners if names.runner_id(verdict.runner) in capable]
    away = [verdict.message for verdict in answer.runners if set(verdict.obstacles) <= _MENDED_AT_RUNNER]
    if any(verdict.fits for verdict in answer.runners):
        _wait(answer, "CAPACITY", "a runner is free and will take it within moments", "")
    elif busy:
        _wait(answer, "CAPACITY", _shown(busy), "")
    elif away:
        _wait(answer, "NO_RUNNER", _shown(away), "")
    else:
        text = "no known runner could ever take it: start one that fits, or change the job's needs"
        _wait(answer, "NO_RUNNER", text, "")


def _shown(messages: list[str]) -> str:
    hidden = len(messages) - _SHOWN_RUNNERS
    return ", ".join(messages[:_SHOWN_RUNNERS]) + (f", and {hidden} more" if hidden > 0 else "")


async def _judge_runners(
    connection: Connection,
    job: job_pb2.Job,
    shape: Shape,
    answer: job_pb2.ExplainJobResponse,
    now: datetime,
) -> list[Node]:
    """Add a verdict for each runner; returns those that could take the job if they were free."""
    capable = []
    ids = (await connection.execute(select(runners.c.id).order_by(runners.c.id))).scalars().all()
    for runner_id in ids:
        loaded = await claims.node(connection, runner_id, now)
        if loaded is None:
            continue
        free, whole = loaded
        found = list(obstacles(shape, free))
        if free.reserved_for not in {None, names.job_id(job.name)}:
            found.append(Obstacle.RESERVED)
        if not PERMANENT & set(found) and not set(obstacles(shape, whole)) - {Obstacle.DRAINING}:
            capable.append(whole)
        name = names.runner_name(runner_id)
        text = f"{name} " + (" and ".join(_WORDS[obstacle] for obstacle in found) or "can take it now")
        answer.runners.add(runner=name, fits=not found, obstacles=found, message=text)
    return capable


async def _position(connection: Connection, job: job_pb2.Job, capable: list[Node]) -> int:
    rows = (await connection.execute(select(shapes))).mappings().all()
    rivals = [
        row["id"]
        for row in rows
        if any(not obstacles(claims.shape_from(row), whole) for whole in capable)
        or (not capable and row["framework"] == job.framework)
    ]
    return await claims.jobs_ahead(connection, names.job_id(job.name), rivals)


def _wait(
    answer: job_pb2.ExplainJobResponse,
    reason: str,
    message: str,
    resource: str,
    until: Timestamp | None = None,
) -> None:
    answer.waiting_for.add(reason=reason, message=message, resource=resource, until_time=until)
