"""Every way to say which images a job looks at, through a real scheduler, agent and job processes."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from command_line import CommandLine
from live_scheduler import Mesh, running
from media_server import TOKEN, MediaServer, endless, media_server, picture, redirect, sends, truncated
from typer.testing import Result

from runners.agent import inputs
from runners.agent.agent import Agent
from runners.agent.job_environment import base_environment
from runners.agent.settings import AgentSettings
from scheduler import media_store
from visionmesh.client import Client
from visionmesh.errors import MeshError, error_of
from visionmesh.shapes import write_shapes
from visionmesh.v1 import dataset_pb2, job_pb2, result_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60.0
RUNNER = "looker"
COLOURS = ("red", "green", "blue")


@dataclass
class World:
    """A mesh with a runner, a media store beside it, and files in a folder."""

    mesh: Mesh
    media: MediaServer
    folder: Path
    checkpoint: str

    async def vmesh(self, *arguments: str) -> Result:
        return await CommandLine(self.mesh, None, self.folder).vmesh(*arguments)  # type: ignore[arg-type]

    def job(self, source: job_pb2.ImageSource, **fields: Any) -> job_pb2.Job:
        spec = job_pb2.InferSpec(images=source, checkpoint=self.checkpoint, top_k=1, **fields)
        job = job_pb2.Job(infer=spec, framework="looking")
        job.retry_policy.initial_backoff.FromMilliseconds(10)
        return job

    def media_job(self, *ids: str, **fields: Any) -> job_pb2.Job:
        return self.job(job_pb2.ImageSource(media_store=job_pb2.MediaStoreImages(ids=ids)), **fields)

    async def ended(self, job: job_pb2.Job) -> tuple[job_pb2.Job, list[result_pb2.ImagePrediction]]:
        """The job when it has ended, and its predictions."""
        handle = await self.mesh.client.create_job(job)
        await handle.wait(PATIENCE)
        return await handle.get(), [each async for each in handle.predictions()]

    async def states(self, *ids: str) -> dict[str, str]:
        found = {item.id: item async for item in self.mesh.client.list_media_items(ids=ids)}
        return {key: dataset_pb2.MediaItemState.Name(found[key].state)[17:] for key in found}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("sources")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    patch.syspath_prepend(str(Path(__file__).parent))
    patch.setattr(media_store, "DELAYS", (0.02, 0.05, 0.1))
    # What runs in this process would write its log between the lines of the command line.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    settings = {"media_store_token": TOKEN, "media_store_max_bytes": 200_000}
    async with (
        media_server() as media,
        running(folder / "data", media_store_url=media.url, **settings) as mesh,
    ):
        agent = Agent(
            AgentSettings(
                scheduler=mesh.address,
                framework="looking_framework:Looking",
                runner_id=RUNNER,
                work_dir=folder / "work",
            )
        )
        working = asyncio.create_task(agent.run())
        await _online(mesh, working)
        for number, colour in enumerate(COLOURS):
            for place in (folder / "photos", folder / "data" / "artifacts" / "mine"):
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{number}-{colour}.png").write_bytes(picture(colour, "PNG"))
            media.images[colour] = picture(colour)
        (folder / "best.pt").write_bytes(b"weights")
        upload = await mesh.client.upload_file(folder / "best.pt")
        write_shapes(folder / "shapes", train=4, val=2, test=2, size=64)
        await mesh.client.create_dataset(folder / "shapes", "shapes")
        try:
            yield World(mesh, media, folder, upload.name)
        finally:
            agent.stop()
            async with asyncio.timeout(PATIENCE):
                await working
            patch.undo()
            structlog.reset_defaults()


async def _online(mesh: Mesh, working: "asyncio.Task[int]") -> None:
    async with asyncio.timeout(PATIENCE):
        while not [runner async for runner in mesh.client.list_runners()]:
            assert not working.done(), "the agent has ended"
            await asyncio.sleep(0.05)


def uri(world: World, name: str) -> str:
    return (world.folder / "data" / "artifacts" / "mine" / name).as_uri()


SOURCES: dict[str, tuple[Callable[[World], list[str]], list[str]]] = {
    "one URI": (lambda w: ["--images", uri(w, "1-green.png")], ["green"]),
    "many URIs": (
        lambda w: [arg for name in ("2-blue.png", "0-red.png") for arg in ("--images", uri(w, name))],
        ["blue", "red"],
    ),
    "a folder's URI": (lambda w: ["--images", uri(w, "") + "/"], list(COLOURS)),
    "one file": (lambda w: ["--images", str(w.folder / "photos" / "0-red.png")], ["red"]),
    "files": (
        lambda w: [
            arg for n in ("0-red", "2-blue") for arg in ("--images", str(w.folder / "photos" / f"{n}.png"))
        ],
        ["red", "blue"],
    ),
    "a folder": (lambda w: ["--images", str(w.folder / "photos")], list(COLOURS)),
    "a dataset's split": (lambda w: ["--images", "shapes:val"], ["", ""]),
    "media ids": (lambda w: ["--media", "blue", "--media", "green"], ["blue", "green"]),
    "one id twice": (lambda w: ["--media", "blue", "--media", "blue"], ["blue", "blue"]),
}


@pytest.mark.parametrize(("arguments", "expected"), SOURCES.values(), ids=SOURCES)
async def test_the_command_line_takes_images_from_everywhere(world: World, arguments, expected) -> None:
    said = await world.vmesh(
        *("infer", "--framework", "looking", "--checkpoint", world.checkpoint, "-o", "json"),
        *arguments(world),
    )
    assert said.exit_code == 0, said.output
    name = json.loads(said.stdout)["job"]["name"]
    assert await _found(world, name) == list(enumerate(expected))


async def _found(world: World, name: str) -> list[tuple[int, str]]:
    """Index and colour of each image; none for those of the dataset, which are larger."""
    found = [each async for each in world.mesh.client.job(name).predictions()]
    assert not [each for each in found if each.HasField("error")]
    plain = [each.classifications[0].class_name if each.width == 32 else "" for each in found]
    return list(zip([each.index for each in found], plain, strict=True))


def _seen_by(kind: str, images: job_pb2.ImageSource, weights: str) -> job_pb2.Job:
    """A job of that kind."""
    if kind == "embed":
        return job_pb2.Job(embed=job_pb2.EmbedSpec(images=images, checkpoint=weights), framework="looking")
    spec = job_pb2.DetectFacesSpec(images=images)
    if kind == "detect_faces":
        return job_pb2.Job(detect_faces=spec, framework="looking")
    both = job_pb2.EmbedFacesSpec(detection=spec, embedding_checkpoint=weights)
    return job_pb2.Job(embed_faces=both, framework="looking")


@pytest.mark.parametrize("source", ["uris", "upload", "dataset_images", "media_store"])
@pytest.mark.parametrize("kind", ["embed", "detect_faces", "embed_faces"])
async def test_every_kind_takes_every_source_from_the_plain_client(
    world: World, kind: str, source: str
) -> None:
    def user() -> tuple[result_pb2.InferenceResult, list[result_pb2.ImagePrediction]]:
        with Client(world.mesh.address) as client:
            sources = {
                "uris": {"uris": job_pb2.ImageUris(uris=[uri(world, "0-red.png")])},
                "dataset_images": {"dataset_images": job_pb2.DatasetImages(dataset="datasets/shapes")},
                "media_store": {"media_store": job_pb2.MediaStoreImages(ids=[f"red-{kind}"])},
            }
            if source == "upload":
                photos = [(path, path.name) for path in sorted((world.folder / "photos").iterdir())]
                sources["upload"] = {"upload": client.upload_archive(photos, "photos.zip").name}
            images = job_pb2.ImageSource(**sources[source])
            job = client.create_job(_seen_by(kind, images, world.checkpoint))
            job.wait(PATIENCE, check=True)
            return job.result().inference, list(job.predictions())

    world.media.images[f"red-{kind}"] = picture("red")
    totals, found = await asyncio.to_thread(user)
    assert totals.total_images == len(found) == {"upload": 3, "dataset_images": 2}.get(source, 1)
    assert not [each.error.message for each in found if each.HasField("error")]
    if kind == "embed":
        assert totals.embedding_dimension == 3
        assert all(each.embedding.artifact for each in found)
    else:
        assert totals.detections_per_class == {"face": len(found)}
    if source == "media_store":
        assert await world.states(f"red-{kind}") == {f"red-{kind}": "SYNCED"}


async def test_an_image_that_cannot_be_had_is_an_error_entry_and_the_rest_goes_on(world: World) -> None:
    async with media_server() as canary:
        canary.images["x"] = picture()
        world.media.answers |= {
            "page": sends(b"<html>log in</html>"),
            "endless": endless,
            "broken": truncated,
            "elsewhere": redirect(f"{canary.url}/media/x"),
        }
        ids = ("red", "absent", "page", "green", "endless", "broken", "elsewhere", "blue")
        job, found = await world.ended(world.media_job(*ids))
        assert not canary.asked
    told = {}
    for each in found:
        colour = each.classifications[0].class_name if each.classifications else ""
        reason = str(error_of(each.error).reason) if each.HasField("error") else ""
        told[each.image_uri] = colour or f"{error_of(each.error).code.name} {reason}"
        print(f"{each.index} {each.image_uri}: {colour or each.error.message}")
    assert vision_pb2.JobState.Name(job.state) == "JOB_STATE_SUCCEEDED"
    assert [each.index for each in found] == list(range(8))
    assert told == {
        "media:red": "red",
        "media:absent": "NOT_FOUND NOT_FOUND",
        "media:page": "INVALID_ARGUMENT IMAGE_UNREADABLE",
        "media:green": "green",
        "media:endless": "INVALID_ARGUMENT IMAGE_UNREADABLE",
        "media:broken": "DATA_LOSS DATA_LOSS",
        "media:elsewhere": "FAILED_PRECONDITION BAD_URI",
        "media:blue": "blue",
    }
    totals = (await world.mesh.client.job(job.name).result()).inference
    assert (totals.total_images, totals.failed_images) == (8, 5)
    states = {"red": "SYNCED", "absent": "GONE", "green": "SYNCED", "blue": "SYNCED"}
    failed = {"page", "endless", "broken", "elsewhere"}
    assert await world.states(*ids) == states | dict.fromkeys(failed, "FAILED")
    said = await world.vmesh("media", "list", "--state", "failed", "-o", "json")
    listed = {item["id"]: item for item in json.loads(said.stdout)}
    assert failed <= listed.keys()
    assert {item["job"] for key, item in listed.items() if key in failed} == {job.name}
    shown = (await world.vmesh("media", "list", "red", "absent")).stdout
    print(shown)
    assert "SYNCED" in shown
    assert "image/jpeg" in shown
    assert "GONE" in shown


async def test_a_known_image_keeps_its_facts_when_it_is_gone(world: World) -> None:
    world.media.images["leaving"] = picture("green")
    await world.ended(world.media_job("leaving"))
    (before,) = [item async for item in world.mesh.client.list_media_items(ids=["leaving"])]
    data = world.media.images.pop("leaving")
    job, _ = await world.ended(world.media_job("leaving"))
    (after,) = [item async for item in world.mesh.client.list_media_items(ids=["leaving"])]
    assert before.size_bytes == after.size_bytes == len(data)
    assert (after.sha256, after.state, after.job) == (
        before.sha256,
        dataset_pb2.MEDIA_ITEM_STATE_GONE,
        job.name,
    )
    assert error_of(after.error).code.name == "NOT_FOUND"
    assert not before.HasField("error")


async def test_what_was_never_fetched_is_pending_and_lists_have_pages(world: World) -> None:
    ids = [f"page-{number}" for number in range(5)]
    job = world.media_job(*ids)
    job.framework = "nobody"
    created = await world.mesh.create(job)
    request = dataset_pb2.ListMediaItemsRequest(page_size=2, ids=ids)
    seen: list[str] = []
    while True:
        page = await world.mesh.call(world.mesh.datasets.ListMediaItems, request)
        assert all(item.state == dataset_pb2.MEDIA_ITEM_STATE_PENDING for item in page.items)
        assert {item.job for item in page.items} == {created.name}
        assert not any(item.HasField("sync_time") for item in page.items)
        seen += [item.id for item in page.items]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ids
    request.ids.append("other")
    with pytest.raises(MeshError, match="another filter"):
        await world.mesh.call(world.mesh.datasets.ListMediaItems, request)


async def test_a_store_that_comes_back_costs_nothing_but_time(world: World) -> None:
    world.media.images["late"] = picture("red")
    world.media.fails("late", 503, times=10)
    job, found = await world.ended(world.media_job("late"))
    assert (job.attempt, found[0].classifications[0].class_name) == (1, "red")
    assert world.media.asked["/media/late"] == 11


async def test_a_store_that_stays_away_is_no_fault_of_the_images(world: World, monkeypatch) -> None:
    monkeypatch.setattr(inputs, "PATIENCE_SECONDS", 0.3)
    world.media.fails("never", 503)
    job = world.media_job("red", "never")
    job.retry_policy.max_attempts = 2
    ended, found = await world.ended(job)
    causes = [vision_pb2.AttemptCause.Name(attempt.cause)[14:] for attempt in ended.attempts]
    print(f"{causes}: {ended.error.message}")
    assert vision_pb2.JobState.Name(ended.state) == "JOB_STATE_FAILED"
    assert (causes, found) == (["INFRASTRUCTURE", "INFRASTRUCTURE"], [])
    assert "media store" in ended.error.message
    assert TOKEN not in str(ended)
    assert (await world.states("never", "red")) == {"never": "PENDING", "red": "SYNCED"}


async def test_an_image_that_has_vanished_from_the_store_is_an_error_entry(world: World) -> None:
    kept, gone = (world.folder / "data" / "artifacts" / "mine" / name for name in ("k-blue.png", "g-red.png"))
    for path in (kept, gone):
        path.write_bytes(picture(path.stem[2:], "PNG"))
    await world.mesh.client.drain_runner(RUNNER)
    uris = job_pb2.ImageUris(uris=[gone.as_uri(), kept.as_uri()])
    handle = await world.mesh.client.create_job(world.job(job_pb2.ImageSource(uris=uris)))
    gone.unlink()
    await world.mesh.client.undrain_runner(RUNNER)
    await handle.wait(PATIENCE, check=True)
    first, second = [each async for each in handle.predictions()]
    print(first.error.message)
    assert (error_of(first.error).code.name, first.image_uri) == ("NOT_FOUND", gone.as_uri())
    assert second.classifications[0].class_name == "blue"
    kept.unlink()


async def test_a_folder_is_listed_once_whatever_comes_and_goes(world: World) -> None:
    folder = world.folder / "data" / "artifacts" / "changing"
    folder.mkdir()
    for name in ("b-red", "d-green", "f-blue"):
        (folder / f"{name}.png").write_bytes(picture(name[2:], "PNG"))
    await world.mesh.client.drain_runner(RUNNER)
    uris = job_pb2.ImageUris(uris=[folder.as_uri() + "/"])
    handle = await world.mesh.client.create_job(world.job(job_pb2.ImageSource(uris=uris)))
    (folder / "a-blue.png").write_bytes(picture("blue", "PNG"))
    (folder / "d-green.png").unlink()
    (folder / "f-blue.png").write_bytes(picture("red", "PNG", 50))  # what it is now counts
    await world.mesh.client.undrain_runner(RUNNER)
    await handle.wait(PATIENCE, check=True)
    found = [each async for each in handle.predictions()]
    told = [(Path(each.image_uri).name, [c.class_name for c in each.classifications]) for each in found]
    assert told == [("b-red.png", ["red"]), ("d-green.png", []), ("f-blue.png", ["red"])]
    assert error_of(found[1].error).reason == "NOT_FOUND"
    again = await handle.retry()
    await again.wait(PATIENCE, check=True)
    assert [Path(each.image_uri).name async for each in again.predictions()] == [
        "a-blue.png",
        "b-red.png",
        "f-blue.png",
    ]
    await world.mesh.client.job(handle.name).delete()


@pytest.mark.parametrize("media_id", ["../secrets", "http://evil.example/x", "a%2fb", "a\\b", "a\nb"])
async def test_an_id_that_could_lead_elsewhere_is_refused_at_once(world: World, media_id: str) -> None:
    with pytest.raises(MeshError) as refused:
        await world.mesh.create(world.media_job("red", media_id))
    assert (refused.value.code.name, refused.value.reason) == ("INVALID_ARGUMENT", "BAD_URI")
    assert refused.value.violations[0].field == "job.infer.images.media_store.ids"


async def test_images_are_said_in_one_way(world: World) -> None:
    start = ("infer", "--framework", "looking", "--checkpoint", world.checkpoint)
    for arguments in ((), ("--images", "shapes:val", "--media", "red")):
        said = await world.vmesh(*start, *arguments)
        assert said.exit_code == 2
        assert "say which images" in " ".join(said.output.split())


async def test_the_token_stays_with_the_scheduler() -> None:
    assert base_environment({"MEDIA_STORE_TOKEN": TOKEN, "PATH": "/bin"}) == {"PATH": "/bin"}
