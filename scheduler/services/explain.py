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
    Obstacle.DRAINING: "is being drained",
    Obstacle.FRAMEWORK: "runs another framework",
    Obstacle.SELECTOR: "lacks a label that the job selects by",
    Obstacle.SLOTS: "has no free slot",
    Obstacle.GPUS: "has not enough free GPUs",
    Obstacle.GPU_MEMORY: "has not enough memory on its free GPUs",
    Obstacle.CPUS: "has not enough free CPU cores",
    Obstacle.RESERVED: "is being kept free for a job that has waited for longer",
}


async def explain(connection: Connection, job: job_pb2.Job, now: datetime) -> job_pb2.ExplainJobResponse:
    """Everything that is known of why `job` is where it is."""
    answer = job_pb2.ExplainJobResponse(state=job.state, queue_position=-1)
    if job.state == vision_pb2.JOB_STATE_PENDING:
        await _explain_pending(connection, job, answer)
    elif job.state == vision_pb2.JOB_STATE_QUEUED:
        await _explain_queued(connection, job, answer, now)
    else:
        answer.summary = _ended(job)
    return answer


def _ended(job: job_pb2.Job) -> str:
    state = vision_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
    if job.state == vision_pb2.JOB_STATE_RUNNING and job.attempts:
        return f"The job is running on {job.attempts[-1].runner}, attempt {job.attempt}."
    reason = f": {job.error.message}" if job.error.message else "."
    return f"The job is {state}{reason}"


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
    shape = shape_of(job)
    capable = await _judge_runners(connection, job, shape, answer, now)
    answer.queue_position = await _position(connection, job, capable)
    if any(verdict.fits for verdict in answer.runners):
        _wait(answer, "CAPACITY", "a runner is free and will take it within moments", "")
    elif capable:
        _wait(answer, "CAPACITY", f"{len(capable)} runner(s) could take it and are not free", "")
    else:
        text = "no known runner could ever take it: start one that fits, or change the job's needs"
        _wait(answer, "NO_RUNNER", text, "")
    ahead = f"{answer.queue_position} job(s) are ahead of it" if answer.queue_position else "it is next"
    answer.summary = f"The job is queued, {ahead}: {answer.waiting_for[-1].message}."


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
