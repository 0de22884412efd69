"""The clients as users have them: in threads and processes, against real servers and bad connections."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from live_scheduler import Mesh
from runner_double import PATIENCE, ended, epoch
from scripted_jobs import IMAGES, WEIGHTS, working

from visionmesh import AsyncClient, Client, errors
from visionmesh.errors import NotFound, Reason, Unavailable
from visionmesh.limits import MAX_RECEIVED_BYTES, MIB
from visionmesh.v1 import (
    dataset_pb2,
    job_pb2,
    job_pb2_grpc,
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_pipeline_from_the_folder_to_the_predictions(
    mesh: Mesh, shapes_folder: Path, framework: str, tmp_path: Path
) -> None:
    def user() -> None:
        with Client(mesh.address) as client:
            dataset = client.create_dataset(shapes_folder, dataset_id=framework.replace("_", "-"))
            assert dataset.name in [each.name for each in client.list_datasets()]
            job = client.create_job(train(dataset, framework))
            sequences = [event.sequence for event in job.watch()]
            assert sequences == list(range(1, len(sequences) + 1))
            assert [event.sequence for event in job.events(after_sequence=4)] == sequences[4:]
            assert job.wait(timeout=PATIENCE, check=True).name == job.name
            assert [each.epoch.metrics["mAP50"] for each in job.metrics()] == [0.25, 0.5, 0.75]
            assert job.result().training.best_epoch == 3
            assert job.download("best", tmp_path / "best.pt").read_bytes() == WEIGHTS
            inference = client.create_job(infer(dataset, framework, f"{job.name}/artifacts/best"))
            live = [image.index for _, image in inference.watch_predictions()]
            assert live == [image.index for image in inference.predictions()] == list(range(IMAGES))

    async with mesh.runner(framework) as runner, working(runner):
        await asyncio.to_thread(user)


def train(dataset: dataset_pb2.Dataset, framework: str) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name, epochs=3)
    return job_pb2.Job(framework=framework, train=spec)


def infer(dataset: dataset_pb2.Dataset, framework: str, checkpoint: str) -> job_pb2.Job:
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name))
    return job_pb2.Job(framework=framework, infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images))


async def test_refusals_arrive_as_their_classes(mesh: Mesh) -> None:
    def user() -> None:
        with Client(mesh.address) as client:
            with pytest.raises(errors.NotFound, match="jobs/nobody"):
                client.job("nobody").get()
            with pytest.raises(errors.NotFound, match="runners/nobody"):
                client.runner("nobody")
            with pytest.raises(errors.InvalidRequest) as raised:
                client.create_job(train(dataset_pb2.Dataset(name="datasets/nowhere"), "ultralytics"))
            assert raised.value.reason is Reason.DATASET_NOT_FOUND
            assert [each.field for each in raised.value.violations] == ["job.train.dataset"]

    await asyncio.to_thread(user)


async def test_runners_are_found_drained_and_undrained_by_id(mesh: Mesh, framework: str) -> None:
    def user() -> None:
        with Client(mesh.address) as client:
            runner_id = f"by-id-{framework}".replace("_", "-")
            assert client.runner(runner_id).name == f"runners/{runner_id}"
            drained = client.drain_runner(runner_id).state
            assert client.undrain_runner(f"runners/{runner_id}").state != drained

    async with mesh.runner(framework, runner_id=f"by-id-{framework}".replace("_", "-")):
        await asyncio.to_thread(user)


async def test_waiting_has_an_end(mesh: Mesh, dataset: dataset_pb2.Dataset, framework: str) -> None:
    def user() -> None:
        with Client(mesh.address) as client:
            job = client.create_job(train(dataset, framework))  # no runner takes it
            with pytest.raises(TimeoutError, match=f"{job.name} has not ended within 0"):
                job.wait(timeout=0.2)
            job.cancel()
            assert job.wait(timeout=PATIENCE) == job.latest

    await asyncio.to_thread(user)


class Relay:
    """A TCP relay in front of a server, whose connections can be cut."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[str]:
        """Listen; gives the address."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", port)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        from_server, to_server = await asyncio.open_connection(self._host, int(self._port))
        self._writers |= {writer, to_server}
        await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def test_a_watch_goes_on_over_a_cut_connection(
    mesh: Mesh, dataset: dataset_pb2.Dataset, framework: str
) -> None:
    job = await mesh.create(train(dataset, framework))
    loop, first = asyncio.get_running_loop(), asyncio.Event()

    def user(address: str) -> list[int]:
        with Client(address) as client:
            seen = []
            for event in client.job(job.name).watch():
                seen.append(event.sequence)
                if event.update.epoch_completed.epoch == 1:
                    loop.call_soon_threadsafe(first.set)
            return seen

    relay = Relay(mesh.address)
    async with relay.listening() as address, mesh.runner(framework) as runner:
        watching = asyncio.create_task(asyncio.to_thread(user, address))
        _, stream = await runner.start()
        await stream.send(epoch(1))
        async with asyncio.timeout(PATIENCE):
            await first.wait()
        relay.cut()
        await stream.send(epoch(2), epoch(3))
        await stream.send(ended())
        async with asyncio.timeout(PATIENCE):
            seen = await watching
        assert seen == list(range(1, len(seen) + 1))
        assert relay.connections > 1


@pytest.mark.parametrize("face", ["synchronous", "asynchronous"])
async def test_a_read_waits_for_a_mesh_that_is_away_and_a_cancel_does_not(mesh: Mesh, face: str) -> None:
    relay = Relay(mesh.address)
    async with relay.listening() as address:
        port = int(address.rpartition(":")[2])
        client = Client(address) if face == "synchronous" else AsyncClient(address)
        call = asyncio.to_thread if face == "synchronous" else _directly
        await call(client.__enter__ if isinstance(client, Client) else client.__aenter__)
        with pytest.raises(NotFound):
            await call(client.job("absent").get)
        await _first(client)
    with pytest.raises(Unavailable):
        await call(client.job("absent").cancel)
    reading = asyncio.create_task(_first(client))
    await asyncio.sleep(1.5)  # longer than gRPC repeats by itself
    assert not reading.done()
    async with relay.listening(port), asyncio.timeout(PATIENCE):
        await reading
        await call(client.close)


async def _directly(method: Callable[[], Awaitable[Any]]) -> Any:
    return await method()


async def _first(client: Client | AsyncClient) -> None:
    """Read a list."""
    if isinstance(client, Client):
        await asyncio.to_thread(lambda: list(client.list_runners()))
    else:
        async for _ in client.list_runners():
            pass


@pytest.mark.parametrize("face", ["Client", "AsyncClient"])
async def test_a_request_above_the_limit_is_refused_once_and_says_what_to_do(mesh: Mesh, face: str) -> None:
    job = job_pb2.Job(display_name="x" * (MAX_RECEIVED_BYTES + MIB))

    def user() -> None:
        with Client(mesh.address) as client:
            client.create_job(job)

    with pytest.raises(errors.TooLarge, match="upload the files and name the upload") as raised:
        await (asyncio.to_thread(user) if face == "Client" else mesh.client.create_job(job))
    assert raised.value.reason is Reason.MESSAGE_TOO_LARGE
    assert not raised.value.from_mesh


@asynccontextmanager
async def serving(
    add: Callable[[Any, grpc.aio.Server], None], servicer: Any, **options: int
) -> AsyncIterator[str]:
    """A server of one servicer; gives its address."""
    server = grpc.aio.server(options=[(f"grpc.{name}", value) for name, value in options.items()])
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Images(result_pb2_grpc.ResultServiceServicer):
    """Lists a hundred predictions of 100 kB, by pages of any size."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def ListPredictions(self, request, context):  # noqa: N802
        self.sizes.append(request.page_size)
        start = int(request.page_token or 0)
        end = min(start + request.page_size, 100)
        image = result_pb2.ImagePrediction(image_uri="x" * 100_000)
        images = [result_pb2.ImagePrediction(index=index) for index in range(start, end)]
        for each in images:
            each.MergeFrom(image)
        return result_pb2.ListPredictionsResponse(
            predictions=images, next_page_token=str(end) if end < 100 else ""
        )


@pytest.mark.parametrize("face", ["Client", "AsyncClient"])
async def test_pages_that_a_server_cannot_send_are_halved_until_it_can(face: str) -> None:
    images, add = Images(), result_pb2_grpc.add_ResultServiceServicer_to_server
    async with serving(add, images, max_send_message_length=4 * MIB) as address:

        def user() -> list[int]:
            with Client(address) as client:
                return [image.index for image in client.job("x").predictions()]

        async def async_user() -> list[int]:
            async with AsyncClient(address) as client:
                return [image.index async for image in client.job("x").predictions()]

        listed = await (asyncio.to_thread(user) if face == "Client" else async_user())
    assert listed == list(range(100))
    assert images.sizes == [500, 250, 125, 62, 31, 31, 31, 31]


class Silent(job_pb2_grpc.JobServiceServicer, progress_pb2_grpc.ProgressServiceServicer):
    """Takes calls and never answers; notices when the caller is gone."""

    def __init__(self) -> None:
        self.called, self.left = asyncio.Event(), asyncio.Event()

    async def GetJob(self, request, context):  # noqa: N802
        await self._hold()

    async def WatchProgress(self, request, context):  # noqa: N802
        await self._hold()
        yield progress_pb2.WatchProgressResponse()

    async def _hold(self) -> None:
        self.called.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


def add_silent(silent: Silent, server: grpc.aio.Server) -> None:
    job_pb2_grpc.add_JobServiceServicer_to_server(silent, server)
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(silent, server)


INTERRUPTED = """
import sys
from visionmesh import Client

with Client(sys.argv[1]) as client:
    try:
        {work}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.stdin.read()  # the client stays open
"""


@pytest.mark.parametrize(
    "work",
    [
        'client.job("x").get()',
        'list(client.job("x").watch())',
        'client.job("x").wait(timeout=1000)',
    ],
)
async def test_ctrl_c_ends_a_call_at_once_and_the_server_knows(work: str) -> None:
    silent, pipe = Silent(), asyncio.subprocess.PIPE
    async with serving(add_silent, silent) as address:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", INTERRUPTED.format(work=work), address, stdin=pipe, stdout=pipe
        )
        try:
            async with asyncio.timeout(3 * PATIENCE):  # a process begins
                await silent.called.wait()
            # The server may know of a call before gRPC has given it to the client to cancel.
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                assert process.stdout is not None
                assert await process.stdout.readline() == b"interrupted\n"
                await silent.left.wait()
        finally:
            await process.communicate(b"")  # and with that its end
    assert process.returncode == 0


async def test_an_asynchronous_wait_that_gives_up_tells_the_server() -> None:
    silent = Silent()
    async with serving(add_silent, silent) as address, AsyncClient(address) as client:
        with pytest.raises(TimeoutError, match=r"jobs/x has not ended within 0\.1 s"):
            await client.job("x").wait(timeout=0.1)
        async with asyncio.timeout(PATIENCE):
            await silent.left.wait()
