"""Streams by HTTP: events that resume by themselves, lines, and what happens when somebody goes away."""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from live_gateway import Event, before, events
from live_scheduler import Mesh, StartMesh
from runner_double import PATIENCE, ended, epoch, line

from scheduler.services.job_watch import JobWatch
from visionmesh.v1 import job_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

Web = httpx.AsyncClient
ATrain = Callable[..., job_pb2.Job]
EVENTS = {"Accept": "text/event-stream"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(mesh: Mesh) -> AsyncIterator[Web]:
    async with before(mesh.address) as client:
        yield client


async def seen(web: Web, path: str, count: int = 0, **headers: str) -> list[Event]:
    """The first events of a stream, all of them without a count."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE), web.stream("GET", path, headers=EVENTS | headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for event in events(answer):
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_a_watch_as_events_from_the_first_to_the_end(web: Web, mesh: Mesh, a_train: ATrain) -> None:
    job = await mesh.create(a_train())
    watching = asyncio.create_task(seen(web, f"/v1/{job.name}:watch"))
    async with mesh.runner(job.framework) as runner:
        await runner.run(epoch(1, mAP50=0.5), epoch(2, val_loss=float("nan")), line("grün\nzwei"), ended())
    told = [event for event in await watching if event.event != "bookmark"]
    *stored, end = told
    assert (end.event, end.data) == ("end", {})
    assert {event.event for event in stored} == {"event"}
    numbers = [int(event.id) for event in stored]
    assert numbers == list(range(1, len(stored) + 1))
    assert [int(event.data["event"]["sequence"]) for event in stored] == numbers
    updates = [event.data["event"]["update"] for event in stored]
    losses = [update["epochCompleted"]["metrics"] for update in updates if "epochCompleted" in update]
    assert losses == [{"mAP50": 0.5}, {"val_loss": "NaN"}]
    assert [update["logLine"]["message"] for update in updates if "logLine" in update] == ["grün\nzwei"]


async def test_last_event_id_goes_on_without_gap_or_repetition(web: Web, mesh: Mesh, a_train: ATrain) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(job.framework) as runner:
        await runner.run(*(epoch(number, 3, mAP50=0.1) for number in (1, 2, 3)), ended())
    whole = await seen(web, f"/v1/{job.name}:watch")
    for cut in range(1, len(whole) - 1):
        first = await seen(web, f"/v1/{job.name}:watch", cut)
        rest = await seen(web, f"/v1/{job.name}:watch", **{"Last-Event-ID": first[-1].id})
        assert first + rest == whole
    by_query = await seen(web, f"/v1/{job.name}:watch?after_sequence=2")
    assert by_query == whole[2:]
    both = await seen(web, f"/v1/{job.name}:watch?after_sequence=1", **{"Last-Event-ID": "2"})
    assert both == whole[2:]


async def test_a_watch_of_jobs_resumes_by_its_token(web: Web, mesh: Mesh, a_train: ATrain) -> None:
    before_it = await mesh.create(a_train())
    path = f"/v1/jobs:watch?filter=framework%20%3D%20%22{before_it.framework}%22"
    job, mark = await seen(web, path, 2)
    assert (job.event, job.data["job"]["name"]) == ("job", before_it.name)
    assert (mark.event, mark.id) == ("bookmark", mark.data["resumeToken"])
    later = await mesh.create(a_train())
    async with web.stream("GET", path, headers=EVENTS | {"Last-Event-ID": mark.id}) as answer:
        async for event in events(answer):  # it may repeat a state
            if event.data.get("job", {}).get("name") == later.name:
                break


async def test_an_error_before_the_stream_is_an_answer_like_any_other(web: Web, mesh: Mesh) -> None:
    absent = await web.get("/v1/jobs/absent:watch", headers=EVENTS)
    assert (absent.status_code, absent.json()["code"]) == (404, 5)
    odd = await web.get("/v1/jobs/absent:watch", headers=EVENTS | {"Last-Event-ID": "x"})
    assert (odd.status_code, odd.json()["details"][1]["fieldViolations"][0]["field"]) == (
        400,
        "after_sequence",
    )


async def test_an_error_on_the_way_is_the_last_event_or_line(web: Web, mesh: Mesh, a_train: ATrain) -> None:
    job = await mesh.create(a_train())
    short, path = {"Grpc-Timeout": "4S"}, f"/v1/{job.name}:watch"
    told, answer = await asyncio.gather(seen(web, path, **short), web.get(path, headers=short))
    assert (told[0].id, told[-1].event, told[-1].data["code"]) == ("1", "error", 4)
    lines = answer.text.splitlines()
    assert json.loads(lines[0])["event"]["sequence"] == "1"
    assert json.loads(lines[-1])["error"]["code"] == 4


async def test_lines_are_what_is_sent_unless_events_are_asked_for(
    web: Web, mesh: Mesh, a_train: ATrain
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(job.framework) as runner:
        await runner.run()
    for accept in ("*/*", "application/x-ndjson", "application/json"):
        answer = await web.get(f"/v1/{job.name}:watch", headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/x-ndjson"
        numbers = [json.loads(each)["event"]["sequence"] for each in answer.text.splitlines()]
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


async def test_headers_come_before_there_is_anything_to_tell(
    start_mesh: StartMesh, shapes_folder: Path
) -> None:
    async with start_mesh(bookmark_seconds=600) as mesh, before(mesh.address, heartbeat_seconds=0.1) as web:
        dataset = await mesh.client.create_dataset(shapes_folder)
        job = await mesh.create(job_pb2.Job(train=job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name)))
        path = f"/v1/{job.name}/predictions:watch"
        async with asyncio.timeout(PATIENCE), web.stream("GET", path, headers=EVENTS) as answer:
            assert answer.status_code == 200
            async for text in answer.aiter_lines():
                if text == ": heartbeat":
                    break


async def test_a_client_that_goes_away_ends_the_call(start_mesh: StartMesh) -> None:
    async with start_mesh() as mesh, before(mesh.address) as web:
        async with web.stream("GET", "/v1/jobs:watch") as answer:
            await anext(answer.aiter_lines())
            assert len(watches()) == 1
        async with asyncio.timeout(PATIENCE):
            while watches():  # noqa: ASYNC110 - nobody sets an event
                await asyncio.sleep(0.01)


def watches() -> list[JobWatch]:
    """Calls of WatchJobs that the scheduler has not ended; it runs in this process."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is JobWatch]


WATCHERS = 500


async def test_five_hundred_watchers_and_a_sigterm(mesh: Mesh, a_train: ATrain, tmp_path: Path) -> None:
    job = await mesh.create(a_train())
    first, second = (
        await gateway_process(mesh.address, tmp_path),
        await gateway_process(mesh.address, tmp_path),
    )
    try:
        crowd = [await Watcher.connect(first.port, job.name) for _ in range(WATCHERS)]
        for watcher in crowd:
            assert await watcher.until_event() == "1"
        begun = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            code = await first.process.wait()
            took = time.monotonic() - begun
            assert [await watcher.rest() for watcher in crowd] == [True] * WATCHERS
        print(f"{WATCHERS} idle watchers, SIGTERM: ended after {took:.2f} s")
        assert code == 0
        assert took < 8  # seconds; 1 on a machine of its own
        resumed = [await Watcher.connect(second.port, job.name, watcher.last) for watcher in crowd]
        async with mesh.runner(job.framework) as runner:
            await runner.run()
        for watcher in resumed:
            assert await watcher.until_event() == "2"
            await watcher.close()
    finally:
        for each in (first, second):
            if each.process.returncode is None:
                each.process.terminate()
            await each.process.wait()


class Watcher:
    """An EventSource in few words: hundreds of them fit into a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.last = ""

    @classmethod
    async def connect(cls, port: int, job: str, last: str = "") -> "Watcher":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        resume = f"Last-Event-ID: {last}\r\n" if last else ""
        head = f"GET /v1/{job}:watch HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n"
        writer.write(head.encode())
        return cls(reader, writer)

    async def until_event(self) -> str:
        """The id of the next event that is no bookmark."""
        async with asyncio.timeout(PATIENCE):
            while raw := await self._reader.readline():
                if raw.startswith(b"id: "):
                    self.last = raw[4:].decode().strip()
                if raw.startswith(b"event: event"):
                    return self.last
        raise AssertionError("the stream ended")

    async def rest(self) -> bool:
        """Whether the stream just closes, so that an EventSource connects again."""
        left = await self._reader.read()
        await self.close()
        return b"event: end" not in left and b"event: error" not in left

    async def close(self) -> None:
        self._writer.close()


class GatewayProcess:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port


async def gateway_process(scheduler: str, folder: Path, port: int = 0, *flags: str) -> GatewayProcess:
    """`python -m gateway`, on a free port unless one is given."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "gateway", "--port", str(port), "--scheduler", scheduler]
    with (folder / "gateway.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, *flags, "--ready-fd", str(writing), pass_fds=[writing], stderr=log
        )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = json.loads(await asyncio.to_thread(pipe.readline))
    assert told["pid"] == process.pid
    return GatewayProcess(process, int(told["address"].rpartition(":")[2]))


async def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "--port", str(port)), stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
    assert process.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use".encode() in said
    assert b"[ADDRESS_IN_USE]" in said


async def test_a_port_that_is_taken_may_be_another(mesh: Mesh, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = await gateway_process(mesh.address, tmp_path, port, "--or-any-port")
    async with Web(trust_env=False, timeout=PATIENCE) as web:
        answer = await web.get(f"http://127.0.0.1:{started.port}/readyz")
    started.process.terminate()
    await started.process.wait()
    assert answer.status_code == 200
    assert started.port != port


async def test_lines_say_that_the_gateway_stops(mesh: Mesh, a_train: ATrain, tmp_path: Path) -> None:
    job = await mesh.create(a_train())
    started = await gateway_process(mesh.address, tmp_path)
    lines: list[str] = []
    async with asyncio.timeout(PATIENCE), Web(trust_env=False, timeout=PATIENCE) as web:
        path = f"http://127.0.0.1:{started.port}/v1/{job.name}:watch"
        async with web.stream("GET", path) as answer:
            async for text in answer.aiter_lines():
                if not lines:
                    started.process.send_signal(signal.SIGTERM)
                lines.append(text)
        await started.process.wait()
    assert json.loads(lines[0])["event"]["sequence"] == "1"
    assert json.loads(lines[-1])["error"]["code"] == 14
