"""A real agent with real job processes, against a scheduler that misbehaves in every allowed way."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status

from runners.agent.agent import EXIT_FAILED, EXIT_OK, Agent
from runners.agent.settings import AgentSettings
from visionmesh import errors
from visionmesh.errors import MeshError, Reason, reason_of
from visionmesh.v1 import (
    job_pb2,
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
    vision_pb2,
)

DEADLINE = 60.0
JOB = "jobs/j-1"
FILES = {"data.yaml": b"names: [a]", "images/train/0.jpg": b"x" * 300_000, "labels/train/0.txt": b"0 1 1 1 1"}
FRAMEWORK = "plain_framework:Plain"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(files: dict[str, bytes]) -> str:
    lines = (f"{sha256(data)} {len(data)} {path}\n" for path, data in sorted(files.items()))
    return sha256("".join(lines).encode())


async def refuse(context, error: MeshError) -> None:
    status = rpc_status.to_status(errors.status_of(error))
    context.set_trailing_metadata(status.trailing_metadata)
    await context.abort(status.code, status.details)


@dataclass
class Stored:
    """One stream as it is on the scheduler's disk, and what shall go wrong with it."""

    messages: list = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """Stream n is cut after so many messages, the last of them stored and not acknowledged."""
    losses: list[int] = field(default_factory=list)
    """Before stream n begins, so many of the newest messages are lost."""
    gaps: int = 0
    """How often a gap is alleged."""
    opened: int = 0

    def begin(self) -> int:
        self.opened += 1
        lost = self.losses.pop(0) if self.losses else 0
        del self.messages[max(0, len(self.messages) - lost) :]
        return len(self.messages)

    def take(self, first: int, messages) -> None:
        expected = len(self.messages) + 1
        if first > expected or self.gaps:
            self.gaps -= 1
            metadata = {"expected_number": str(expected)}
            raise MeshError(grpc.StatusCode.OUT_OF_RANGE, Reason.SEQUENCE_GAP, "gap", metadata)
        self.messages += messages[expected - first :]


class Scheduler(
    runner_pb2_grpc.RunnerServiceServicer,
    progress_pb2_grpc.ProgressServiceServicer,
    result_pb2_grpc.ResultServiceServicer,
):
    """Speaks the runner's half of the protocol over one job."""

    def __init__(self) -> None:
        self.progress, self.results = Stored(), Stored()
        self.objects: dict[str, bytes] = {}
        self.stored: dict[str, list[bytes]] = {}
        self.registered: list[runner_pb2.Register] = []
        self.heard: list[runner_pb2.ConnectRequest] = []
        self.changed = asyncio.Condition()
        self.outgoing: asyncio.Queue[runner_pb2.ConnectResponse | MeshError] = asyncio.Queue()
        self.images_done = 0
        self.superseded = False
        self.fetched: list[str] = []
        self.damage = 0
        self.fetch_refusal: MeshError | None = None
        self.store_refusals: list[MeshError] = []
        self.outstanding = 0
        self.takes_progress = asyncio.Event()
        """While this is not set, no progress is stored."""
        self.takes_progress.set()
        self.next_job: runner_pb2.Assignment | None = None
        """Assigned when the first job's end is stored, and before that is acknowledged."""

    async def until(self, true: Callable[[], object], seconds: float = DEADLINE) -> None:
        """Wait until something is true of what has been heard."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(true)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def Connect(self, requests, context):  # noqa: N802
        register = (await anext(aiter(requests))).register
        self.registered.append(register)
        welcome = runner_pb2.Registered(
            runner=f"runners/{register.runner_id}",
            heartbeat_interval=Duration(nanos=100_000_000),
            lease_duration=Duration(seconds=5),
            keep=[ref for ref in register.attempts if not self.superseded],
        )
        await context.write(runner_pb2.ConnectResponse(registered=welcome))
        await self._tell()
        writing = asyncio.create_task(self._write(context))
        try:
            async for request in requests:
                self.heard.append(request)
                if request.HasField("heartbeat"):
                    kill = request.heartbeat.attempts if self.superseded else []
                    stored = runner_pb2.HeartbeatStored(kill=kill)
                    self.outgoing.put_nowait(runner_pb2.ConnectResponse(heartbeat_stored=stored))
                await self._tell()
                if writing.done():
                    writing.result()
        except MeshError as error:
            await refuse(context, error)
        finally:
            writing.cancel()

    async def _write(self, context) -> None:
        while True:
            response = await self.outgoing.get()
            if isinstance(response, MeshError):
                raise response
            await context.write(response)

    async def ReportProgress(self, requests, context):  # noqa: N802
        await self._serve(self.progress, requests, context, progress_pb2.ReportProgressResponse, "updates")

    async def PublishResults(self, requests, context):  # noqa: N802
        await self._serve(self.results, requests, context, result_pb2.PublishResultsResponse, "items")

    async def _serve(self, stored: Stored, requests, context, response, items: str) -> None:
        opening = await anext(aiter(requests))
        if (opening.job, opening.attempt) != (JOB, 1):
            await refuse(context, errors.superseded(opening.job, opening.attempt))
        assert not getattr(opening, items)
        first = response(committed_number=stored.begin())
        if items == "items":
            first.images_done = self.images_done
        await context.write(first)
        left = stored.cuts.pop(0) if stored.cuts else -1
        async for request in requests:
            messages = list(getattr(request, items))
            if stored is self.progress:
                await self.takes_progress.wait()
            if 0 <= left <= len(messages):
                stored.take(request.first_number, messages[:left])
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut before the acknowledgement")
            left -= len(messages)
            try:
                if self.superseded:
                    raise errors.superseded(JOB, 1)
                self._check_end(messages)
                stored.take(request.first_number, messages)
            except MeshError as error:
                await refuse(context, error)
            await self._assign_next(stored)
            await context.write(response(committed_number=len(stored.messages)))
            await self._tell()

    async def _assign_next(self, stored: Stored) -> None:
        if self.next_job is None or stored is not self.progress or not self.updates("attempt_ended"):
            return
        name = self.next_job.job.name
        self.say(assignment=self.next_job)
        self.next_job = None
        await self.until(lambda: name in replies(self))

    def _check_end(self, messages) -> None:
        for message in messages:
            if isinstance(message, progress_pb2.ProgressUpdate) and message.HasField("attempt_ended"):
                if self.outstanding:
                    self.outstanding -= 1
                    del self.results.messages[1:]
                if message.attempt_ended.results_number != len(self.results.messages):
                    raise errors.precondition(Reason.RESULTS_OUTSTANDING, "send them")

    async def FetchObject(self, request, context):  # noqa: N802
        if self.fetch_refusal is not None:
            await refuse(context, self.fetch_refusal)
        self.fetched += request.uris
        for uri in request.uris:
            for name in [
                name for name in self.objects if name == uri or (uri[-1] == "/" and name.startswith(uri))
            ]:
                data = self.objects[name]
                header = runner_pb2.ObjectHeader(
                    uri=name, path=name.removeprefix(uri), size_bytes=len(data), sha256=sha256(data)
                )
                await context.write(runner_pb2.FetchObjectResponse(header=header))
                if self.damage and data:
                    self.damage -= 1
                    data = b"?" + data[1:]
                for start in range(0, len(data), 100_000):
                    await context.write(runner_pb2.FetchObjectResponse(chunk=data[start : start + 100_000]))

    async def StoreObject(self, requests, context):  # noqa: N802
        header = (await anext(aiter(requests))).header
        if self.store_refusals:
            await refuse(context, self.store_refusals.pop(0))
        data = b"".join([request.chunk async for request in requests])
        assert (len(data), sha256(data)) == (header.size_bytes, header.sha256)
        self.stored.setdefault(header.path, []).append(data)
        return runner_pb2.StoreObjectResponse(uri=f"file:///store/{header.path}")

    def updates(self, kind: str) -> list:
        return [getattr(update, kind) for update in self.progress.messages if update.HasField(kind)]

    def items(self, kind: str) -> list:
        return [getattr(item, kind) for item in self.results.messages if item.HasField(kind)]

    def holds_nothing_since(self, start: int) -> Callable[[], bool]:
        """Whether a heartbeat later than the first `start` messages names no attempt."""
        return lambda: any(r.HasField("heartbeat") and not r.heartbeat.attempts for r in self.heard[start:])

    def say(self, **message) -> None:
        self.outgoing.put_nowait(runner_pb2.ConnectResponse(**message))

    async def ended(self) -> progress_pb2.AttemptEnded:
        """The attempt's end; nothing came after it, and everything before it once."""
        await self.until(lambda: self.updates("attempt_ended"))
        await self.until(self.holds_nothing_since(len(self.heard)))
        assert self.progress.messages[-1].HasField("attempt_ended")
        (ended,) = self.updates("attempt_ended")
        assert ended.results_number == len(self.results.messages)
        return ended


@dataclass
class Mesh:
    scheduler: Scheduler
    address: str
    work_dir: Path
    agent: Agent
    running: "asyncio.Task[int]"

    async def over(self) -> int:
        """The agent's exit code."""
        async with asyncio.timeout(DEADLINE):
            return await self.running


def settings(address: str, work_dir: Path, **more) -> AgentSettings:
    return AgentSettings(
        **{
            "scheduler": address,
            "framework": FRAMEWORK,
            "runner_id": "r-1",
            "work_dir": work_dir,
            "drain_grace_seconds": 5,
            **more,
        }
    )


@pytest.fixture(autouse=True)
def plain_framework(monkeypatch):
    folder = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", folder)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
async def scheduler() -> AsyncIterator[tuple[Scheduler, str]]:
    scheduler, server = Scheduler(), grpc.aio.server()
    runner_pb2_grpc.add_RunnerServiceServicer_to_server(scheduler, server)
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(scheduler, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(scheduler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield scheduler, f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
async def mesh(scheduler, tmp_path, request) -> AsyncIterator[Mesh]:
    async with started(*scheduler, tmp_path / "work", **getattr(request, "param", {})) as mesh:
        yield mesh


@contextlib.asynccontextmanager
async def started(scheduler: Scheduler, address: str, work_dir: Path, **more) -> AsyncIterator[Mesh]:
    agent = Agent(settings(address, work_dir, **more))
    mesh = Mesh(scheduler, address, work_dir, agent, asyncio.create_task(agent.run()))
    await scheduler.until(lambda: scheduler.registered)
    yield mesh
    agent.stop()
    await mesh.over()
    assert not list((work_dir / "attempts").glob("*")), "an attempt has left its folder behind"


def training(model: str = "epochs", epochs: int = 3, seed: int = 0) -> runner_pb2.Assignment:
    spec = job_pb2.TrainSpec(model=model, dataset="datasets/d", epochs=epochs, seed=seed)
    dataset = runner_pb2.DatasetInput(name="datasets/d", digest=digest(FILES), uri="file:///store/d/")
    return runner_pb2.Assignment(job=job_pb2.Job(name=JOB, train=spec), attempt=1, dataset=dataset)


def inference(count: int, model: str = "predict") -> runner_pb2.Assignment:
    images = [
        runner_pb2.ObjectInput(
            uri=f"file:///store/i/{n}.jpg", size_bytes=n + 1, sha256=sha256(b"i" * (n + 1))
        )
        for n in range(count)
    ]
    spec = job_pb2.InferSpec(model=model, checkpoint="uploads/u")
    return runner_pb2.Assignment(job=job_pb2.Job(name=JOB, infer=spec), attempt=1, images=images)


def assign(scheduler: Scheduler, assignment: runner_pb2.Assignment) -> None:
    scheduler.objects |= {f"file:///store/d/{path}": data for path, data in FILES.items()}
    scheduler.objects |= {image.uri: b"i" * image.size_bytes for image in assignment.images}
    scheduler.say(assignment=assignment)


def cancel(scheduler: Scheduler, cause: int, grace: timedelta) -> None:
    message = runner_pb2.CancelAttempt(job=JOB, attempt=1, cause=cause)
    message.grace_period.FromTimedelta(grace)
    scheduler.say(cancel_attempt=message)


def outcome(ended: progress_pb2.AttemptEnded) -> tuple[str, str]:
    state = vision_pb2.AttemptState.Name(ended.outcome).removeprefix("ATTEMPT_STATE_")
    return state, vision_pb2.AttemptCause.Name(ended.cause).removeprefix("ATTEMPT_CAUSE_")


@pytest.mark.parametrize(
    "mesh", [{"zygote": True}, {"zygote": False}], indirect=True, ids=["zygote", "spawn"]
)
async def test_a_training_is_told_from_its_inputs_to_its_end(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training())
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    kinds = [update.WhichOneof("update") for update in scheduler.progress.messages]
    assert kinds[:3] == ["stage_changed", "stage_changed", "attempt_started"]
    assert [e.epoch for e in scheduler.updates("epoch_completed")] == [1, 2, 3]
    assert all(
        e.metrics["train_loss"] != e.metrics["train_loss"] for e in scheduler.updates("epoch_completed")
    )
    lines = [line.message for line in scheduler.updates("log_line")]
    assert "dataset: ['data.yaml', 'images', 'labels']" in lines
    assert [line for line in lines if "%" in line] == ["epoch 1 100%", "epoch 2 100%", "epoch 3 100%"]
    replies = [r.assignment_reply for r in scheduler.heard if r.HasField("assignment_reply")]
    assert [(reply.job, reply.attempt, reply.accepted) for reply in replies] == [(JOB, 1, True)]


async def test_a_checkpoint_is_published_after_the_epochs_that_it_holds(mesh):
    """Or another attempt could go on from it, and epochs would be missing in the history for ever."""
    scheduler = mesh.scheduler
    scheduler.takes_progress.clear()
    assign(scheduler, training(epochs=4))
    await scheduler.until(lambda: scheduler.stored)
    heard = len(scheduler.heard) + 5  # heartbeats: time for it to arrive, if it were to
    await scheduler.until(lambda: scheduler.items("artifact") or len(scheduler.heard) >= heard)
    assert not scheduler.items("artifact")
    scheduler.takes_progress.set()
    await scheduler.ended()
    assert scheduler.items("artifact")


async def test_a_checkpoint_is_stored_before_it_is_announced(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training(epochs=4))
    await scheduler.ended()
    last = b"epoch 4" * 100_000
    assert scheduler.stored["last.pt"][-1] == last
    artifact = scheduler.items("artifact")[-1]
    assert artifact.name == f"{JOB}/artifacts/last"
    assert (artifact.size_bytes, artifact.sha256, artifact.uri) == (
        len(last),
        sha256(last),
        "file:///store/last.pt",
    )
    assert dict(artifact.metadata) == {"epoch": "4", "resumable": "true"}
    saved = scheduler.updates("checkpoint_saved")
    assert len(saved) == len(scheduler.items("artifact")) == len(scheduler.stored["last.pt"])
    assert (saved[-1].artifact, saved[-1].epoch, saved[-1].sha256) == (artifact.name, 4, sha256(last))
    assert scheduler.items("training")[0].best_epoch == 4


@pytest.mark.parametrize(
    ("cuts", "losses", "gaps"),
    [
        pytest.param([0, 1, 5, 17, 40], [], 0, id="cut before the acknowledgement"),
        pytest.param([30, 30, 30], [0, 7, 30], 0, id="the scheduler comes back with less"),
        pytest.param([], [], 3, id="the scheduler alleges gaps"),
    ],
)
async def test_everything_arrives_once_and_in_order(mesh, cuts, losses, gaps):
    scheduler, count = mesh.scheduler, 150
    scheduler.results = Stored(cuts=list(cuts), losses=list(losses), gaps=gaps)
    scheduler.progress = Stored(cuts=list(cuts), losses=list(losses), gaps=gaps)
    assign(scheduler, inference(count))
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    predictions = scheduler.items("prediction")
    assert [p.index for p in predictions] == list(range(count))
    assert [p.width for p in predictions] == list(range(1, count + 1)), "each is about its own image"
    assert scheduler.results.opened > 1
    assert len(scheduler.updates("attempt_started")) == 1


async def test_a_training_arrives_whole_over_a_bad_connection(mesh):
    scheduler = mesh.scheduler
    scheduler.progress = Stored(cuts=[1, 2, 3, 10, 50], losses=[0, 1, 1, 1, 5, 20])
    assign(scheduler, training(epochs=100))
    ended = await scheduler.ended()
    assert outcome(ended) == ("SUCCEEDED", "UNSPECIFIED"), ended.error.message
    assert [e.epoch for e in scheduler.updates("epoch_completed")] == list(range(1, 101))
    assert scheduler.progress.opened == 6


async def test_an_end_that_comes_before_lost_results_waits_for_them(mesh):
    scheduler = mesh.scheduler
    scheduler.outstanding = 1
    assign(scheduler, inference(20))
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    assert [p.index for p in scheduler.items("prediction")] == list(range(20))


async def test_images_that_are_done_are_neither_fetched_nor_predicted_again(mesh):
    scheduler = mesh.scheduler
    scheduler.images_done = 17
    assign(scheduler, inference(20))
    await scheduler.ended()
    assert [p.index for p in scheduler.items("prediction")] == [17, 18, 19]
    assert scheduler.fetched == [f"file:///store/i/{n}.jpg" for n in (17, 18, 19)]


async def test_a_dataset_is_fetched_once(mesh):
    scheduler = mesh.scheduler
    for _ in range(2):
        scheduler.progress, scheduler.results = Stored(), Stored()
        assign(scheduler, training(epochs=1))
        assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    assert scheduler.fetched == ["file:///store/d/"]


@pytest.mark.parametrize(("damage", "state"), [(2, "SUCCEEDED"), (99, "FAILED")])
async def test_damaged_inputs_are_fetched_again_and_never_used(mesh, damage, state):
    scheduler = mesh.scheduler
    scheduler.damage = damage
    assign(scheduler, training(epochs=1))
    ended = await scheduler.ended()
    assert outcome(ended)[0] == state
    if state == "FAILED":
        assert outcome(ended)[1] == "INFRASTRUCTURE"
        assert "SHA-256" in ended.error.message
        assert not list((mesh.work_dir / "datasets").glob("[!.]*")), "nothing damaged is kept"


async def test_an_input_that_does_not_exist_is_the_users_error(mesh):
    mesh.scheduler.fetch_refusal = errors.not_found("dataset", "datasets/d")
    assign(mesh.scheduler, training())
    ended = await mesh.scheduler.ended()
    assert outcome(ended) == ("FAILED", "USER_ERROR")
    assert "There is no dataset" in ended.error.message


@pytest.mark.parametrize(
    ("model", "number", "cause", "reason", "words"),
    [
        ("killed", signal.SIGSEGV, "PROCESS_DIED", "PROCESS_DIED", "SIGSEGV"),
        ("killed", signal.SIGKILL, "PROCESS_DIED", "PROCESS_DIED", "memory"),
        ("leave", 7, "PROCESS_DIED", "PROCESS_DIED", "about to leave"),
        ("fail", 0, "FRAMEWORK_ERROR", "FRAMEWORK_ERROR", "shapes do not match"),
        ("refuse", 0, "USER_ERROR", "DATASET_INVALID", "labels are wrong"),
    ],
)
async def test_failures_have_their_cause_and_the_runner_goes_on(mesh, model, number, cause, reason, words):
    scheduler = mesh.scheduler
    assign(scheduler, training(model, seed=int(number)))
    ended = await scheduler.ended()
    assert outcome(ended) == ("FAILED", cause)
    assert reason_of(ended.error) == reason
    assert words in ended.error.message
    scheduler.progress, scheduler.results = Stored(), Stored()
    assign(scheduler, training(epochs=1))
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")


@pytest.mark.parametrize(
    ("cause", "state"),
    [
        (vision_pb2.ATTEMPT_CAUSE_CANCELLED, ("CANCELLED", "CANCELLED")),
        (vision_pb2.ATTEMPT_CAUSE_DRAINED, ("RELEASED", "DRAINED")),
        (vision_pb2.ATTEMPT_CAUSE_TIMEOUT, ("FAILED", "TIMEOUT")),
    ],
)
async def test_a_stop_leaves_a_checkpoint(mesh, cause, state):
    scheduler = mesh.scheduler
    assign(scheduler, training("wait"))
    await scheduler.until(lambda: scheduler.updates("attempt_started"))
    cancel(scheduler, cause, timedelta(seconds=30))
    assert outcome(await scheduler.ended()) == state
    assert [c.resumable for c in scheduler.updates("checkpoint_saved")] == [True]


async def test_what_does_not_listen_is_killed_when_the_grace_is_over(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training("deaf"))
    pids = await processes(scheduler)
    cancel(scheduler, vision_pb2.ATTEMPT_CAUSE_CANCELLED, timedelta(milliseconds=50))
    assert outcome(await scheduler.ended()) == ("CANCELLED", "CANCELLED")
    assert not alive(pids), "its children too, wherever they went"


async def test_run_timeout_counts_from_the_start(mesh):
    scheduler, assignment = mesh.scheduler, training("wait")
    assignment.job.run_timeout.FromMilliseconds(200)
    assign(scheduler, assignment)
    ended = await scheduler.ended()
    assert outcome(ended) == ("FAILED", "TIMEOUT")
    assert reason_of(ended.error) == Reason.RUN_TIMEOUT


async def test_a_cancel_while_inputs_are_fetched_ends_at_once(mesh):
    scheduler = mesh.scheduler
    scheduler.fetch_refusal = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "store is away")
    assign(scheduler, training())
    await scheduler.until(lambda: scheduler.updates("stage_changed"))
    cancel(scheduler, vision_pb2.ATTEMPT_CAUSE_CANCELLED, timedelta(seconds=3600))
    assert outcome(await scheduler.ended()) == ("CANCELLED", "CANCELLED")
    assert not scheduler.updates("attempt_started")


@pytest.mark.parametrize("how", ["stream", "heartbeat", "register"])
async def test_a_superseded_attempt_is_killed_and_tells_nothing(mesh, how):
    scheduler = mesh.scheduler
    assign(scheduler, training("deaf" if how != "stream" else "shout", epochs=100_000))
    await scheduler.until(lambda: scheduler.updates("attempt_started"))
    pids = await processes(scheduler) if how != "stream" else []
    scheduler.superseded, heard = True, len(scheduler.heard)
    if how == "register":
        scheduler.say(reconnect=runner_pb2.Reconnect())
    await scheduler.until(scheduler.holds_nothing_since(heard))
    assert not alive(pids)
    assert not scheduler.updates("attempt_ended")


async def test_attempts_go_on_while_the_control_stream_is_away(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training("wait"))
    await scheduler.until(lambda: scheduler.updates("attempt_started"))
    scheduler.outgoing.put_nowait(MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "restart"))
    await scheduler.until(lambda: len(scheduler.registered) == 2)
    first, second = scheduler.registered
    assert first.incarnation == second.incarnation
    assert [(ref.job, ref.attempt) for ref in second.attempts] == [(JOB, 1)]
    cancel(scheduler, vision_pb2.ATTEMPT_CAUSE_CANCELLED, timedelta(seconds=30))
    assert outcome(await scheduler.ended()) == ("CANCELLED", "CANCELLED")


async def test_an_upload_is_tried_again_until_the_store_takes_it(mesh):
    scheduler = mesh.scheduler
    away = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "away")
    damaged = MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, "other bytes")
    scheduler.store_refusals = [away, damaged, away]
    assign(scheduler, training(epochs=1))
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    assert scheduler.stored == {"last.pt": [b"epoch 1" * 100_000]}


async def test_a_prediction_is_told_when_the_picture_that_it_names_is_stored(mesh):
    scheduler = mesh.scheduler
    scheduler.store_refusals = [MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "away")] * 3
    assign(scheduler, inference(3, "draw"))
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    told = [item.WhichOneof("item") for item in scheduler.results.messages]
    assert told == [*["artifact", "prediction"] * 3, "inference"]


async def test_an_image_whose_picture_is_refused_is_left_to_another_attempt(mesh):
    scheduler = mesh.scheduler
    scheduler.store_refusals = [MeshError(grpc.StatusCode.INVALID_ARGUMENT, Reason.BAD_URI, "never")]
    assign(scheduler, inference(3, "draw"))
    assert outcome(await scheduler.ended()) == ("FAILED", "INFRASTRUCTURE")
    assert scheduler.items("prediction") == []


async def test_a_job_process_cannot_end_its_attempt_or_publish_foreign_files(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training("usurp"))
    ended = await scheduler.ended()
    assert outcome(ended) == ("FAILED", "INFRASTRUCTURE")
    assert not scheduler.stored
    assert len([u for u in scheduler.updates("log_line") if u.level == progress_pb2.LOG_LEVEL_ERROR]) == 4


async def test_a_flood_of_lines_is_thinned_and_the_gap_is_counted(mesh):
    scheduler, count = mesh.scheduler, 50_000
    assign(scheduler, training("shout", epochs=count))
    assert outcome(await scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    lines = [line for line in scheduler.updates("log_line") if line.message.startswith("line ")]
    dropped = sum(gap.dropped_lines for gap in scheduler.updates("log_gap"))
    assert 0 < dropped < count
    assert len(lines) + dropped == count


async def test_only_as_many_jobs_as_slots_are_taken(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training("wait"))
    await scheduler.until(lambda: scheduler.updates("attempt_started"))
    other = training()
    other.job.name = "jobs/j-2"
    scheduler.say(assignment=other)
    await scheduler.until(lambda: replies(scheduler).get("jobs/j-2") is not None)
    assert "1 slots are taken" in replies(scheduler)["jobs/j-2"].reason
    assert not replies(scheduler)["jobs/j-2"].accepted


async def test_the_place_is_free_before_the_end_is_acknowledged(mesh):
    scheduler = mesh.scheduler
    scheduler.next_job = training()
    scheduler.next_job.job.name = "jobs/j-2"
    assign(scheduler, training(epochs=1))
    await scheduler.ended()
    assert replies(scheduler)["jobs/j-2"].accepted


async def test_sigterm_drains(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training("wait"))
    await scheduler.until(lambda: scheduler.updates("attempt_started"))
    mesh.agent.stop()
    await scheduler.until(lambda: scheduler.updates("attempt_ended"))
    assert outcome(scheduler.updates("attempt_ended")[0]) == ("RELEASED", "DRAINED")
    assert scheduler.updates("checkpoint_saved")
    assert [r for r in scheduler.heard if r.HasField("draining")]
    assert await mesh.over() == EXIT_OK


@pytest.mark.parametrize("mesh", [{"once": True}], indirect=True)
async def test_once_takes_one_job_and_ends(mesh):
    scheduler = mesh.scheduler
    assign(scheduler, training(epochs=1))
    assert await mesh.over() == EXIT_OK
    assert outcome(scheduler.updates("attempt_ended")[0]) == ("SUCCEEDED", "UNSPECIFIED")
    assert [r for r in scheduler.heard if r.HasField("draining")]


async def test_a_runner_whose_id_was_taken_over_ends(mesh):
    superseded = MeshError(grpc.StatusCode.ABORTED, Reason.RUNNER_SUPERSEDED, "another process has the id")
    mesh.scheduler.outgoing.put_nowait(superseded)
    assert await mesh.over() == EXIT_FAILED


async def test_two_agents_do_not_share_a_folder(mesh):
    second = Agent(settings(mesh.address, mesh.work_dir))
    async with asyncio.timeout(DEADLINE):
        assert await second.run() == EXIT_FAILED


@pytest.mark.parametrize("zygote", ["--zygote", "--no-zygote"])
async def test_nothing_outlives_an_agent_that_is_killed(scheduler, tmp_path, zygote):
    scheduler, address = scheduler
    arguments = ["--scheduler", address, "--framework", FRAMEWORK, "--work-dir", str(tmp_path), zygote]
    agent = await asyncio.create_subprocess_exec(sys.executable, "-m", "runners.agent", *arguments)
    try:
        assign(scheduler, training("deaf"))
        pids = await processes(scheduler)
        fds = [os.pidfd_open(pid) for pid in pids]
    finally:
        agent.kill()
    async with asyncio.timeout(1.0):
        for fd in fds:
            await readable(fd)
    assert await agent.wait() == -signal.SIGKILL
    for fd in fds:
        os.close(fd)


async def readable(fd: int) -> None:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(fd)


async def processes(scheduler: Scheduler) -> list[int]:
    """The processes of a deaf job: its own, a child, and a child in a session of its own."""

    def told() -> list[str]:
        return [line.message for line in scheduler.updates("log_line") if line.message.startswith("[")]

    await scheduler.until(told)
    return json.loads(told()[0])


def alive(pids: list[int]) -> list[int]:
    """Those that run; one that is dead and not yet buried does not."""
    states = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return [pid for pid, state in states.items() if state not in "ZX"]


def replies(scheduler: Scheduler) -> dict[str, runner_pb2.AssignmentReply]:
    return {
        request.assignment_reply.job: request.assignment_reply
        for request in scheduler.heard
        if request.HasField("assignment_reply")
    }


PUBLISHING = "plain_framework:Publishing"


def from_published(model: str, **more) -> runner_pb2.Assignment:
    assignment = training(model)
    assignment.job.train.pretrained = True
    assignment.MergeFrom(runner_pb2.Assignment(**more))
    return assignment


def probed(scheduler: Scheduler) -> dict[str, str]:
    """The environment of the job process."""
    (line,) = [line.message for line in scheduler.updates("log_line") if line.message.startswith("{")]
    return json.loads(line)["environ"]


async def test_published_weights_are_fetched_beside_the_job_process(scheduler, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    more = {"framework": PUBLISHING, "pretrained": True, "weights_mirror": "http://mirror/"}
    async with started(*scheduler, tmp_path / "work", **more) as mesh:
        assert mesh.scheduler.registered[0].manifest.fetches_pretrained
        assign(mesh.scheduler, from_published("probe"))
        assert outcome(await mesh.scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    told = probed(mesh.scheduler)
    weights = Path(told["CHECKPOINT_PATH"])
    assert weights == tmp_path / "work/weights/1/probe/weights.bin"
    fetched = await asyncio.to_thread(lambda: json.loads(weights.read_text()))
    assert fetched["mirror"] == "http://mirror"
    assert (fetched["environ"]["HTTPS_PROXY"], told.get("HTTPS_PROXY")) == ("http://proxy", None)
    assert "AWS_SECRET_ACCESS_KEY" not in fetched["environ"]


async def test_a_resumed_training_has_published_weights_to_start_anew_from(scheduler, tmp_path):
    last = runner_pb2.ObjectInput(uri="file:///store/last.pt", size_bytes=4, sha256=sha256(b"last"))
    async with started(*scheduler, tmp_path / "work", framework=PUBLISHING, pretrained=True) as mesh:
        mesh.scheduler.objects["file:///store/last.pt"] = b"last"
        assign(mesh.scheduler, from_published("probe", checkpoint=last, resume=True))
        assert outcome(await mesh.scheduler.ended()) == ("SUCCEEDED", "UNSPECIFIED")
    told = probed(mesh.scheduler)
    assert Path(told["CHECKPOINT_PATH"]).name == "checkpoint.pt"
    assert Path(told["START_CHECKPOINT_PATH"]).name == "weights.bin"


async def test_a_runner_that_may_not_fetch_says_so(scheduler, tmp_path):
    async with started(*scheduler, tmp_path / "work", framework=PUBLISHING) as mesh:
        assert not mesh.scheduler.registered[0].manifest.fetches_pretrained
        assign(mesh.scheduler, from_published("probe"))
        ended = await mesh.scheduler.ended()
    assert outcome(ended) == ("FAILED", "USER_ERROR")
    assert "start the runner with --pretrained" in ended.error.message
    assert not mesh.scheduler.updates("attempt_started")


async def test_a_cancel_while_published_weights_are_fetched_ends_at_once(scheduler, tmp_path):
    async with started(*scheduler, tmp_path / "work", framework=PUBLISHING, pretrained=True) as mesh:
        assign(mesh.scheduler, from_published("wait"))
        said = tmp_path / "work/weights/1/pid"
        await mesh.scheduler.until(lambda: said.exists() and said.read_text())
        cancel(mesh.scheduler, vision_pb2.ATTEMPT_CAUSE_CANCELLED, timedelta(seconds=60))
        assert outcome(await mesh.scheduler.ended()) == ("CANCELLED", "CANCELLED")
        gone = Path(f"/proc/{said.read_text()}")
        await mesh.scheduler.until(lambda: not gone.exists())
