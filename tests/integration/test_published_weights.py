"""Published weights, fetched by the agent's side. A local server stands in for the makers'.

What it gives are real checkpoints, made here.
"""

import asyncio
import hashlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from google.rpc import code_pb2, error_details_pb2
from safetensors.torch import save_file

from runners.agent.inputs import InputFailed
from runners.agent.settings import AgentSettings
from runners.agent.weights import PublishedWeights, remove_leftovers
from runners.process import download
from runners.process.errors import UserError
from runners.timm import classifier
from runners.timm import weights as timm_weights
from runners.timm.framework import Timm
from runners.ultralytics import weights as ultralytics_weights
from runners.ultralytics.framework import Ultralytics
from visionmesh.cli.mesh import MeshSettings, local_mesh
from visionmesh.client import AsyncClient
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2, vision_pb2

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]

HUB_PATH = "timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


@dataclass
class Origin:
    """What the server has, and what it was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def origin() -> Iterator[Origin]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        has: ClassVar[Origin]

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            self.has.asked.append(name)
            if not name.startswith("moved/") and "X-Linked-ETag" in self.has.headers:
                self.send_response(302)
                self.send_header("Location", f"/moved/{name}")
                self.send_header("X-Linked-ETag", self.has.headers["X-Linked-ETag"])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = self.has.files.get(name.removeprefix("moved/"))
            self.send_response(404 if found is None else 200)
            length = self.has.headers.get("Content-Length", str(len(found or b"")))
            self.send_header("Content-Length", length)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.has = Origin(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Handler.has
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def resnet() -> Any:
    """A small model of timm with weights of its own."""
    torch.manual_seed(0)
    return timm.create_model("test_resnet").eval()


@pytest.fixture(scope="module")
def resnet_file(resnet: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("resnet") / "model.safetensors"
    save_file(resnet.state_dict(), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def yolo_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint as ultralytics writes them, with classes of its own."""
    Ultralytics().preload()
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    model.names = {0: "cat", 1: "dog"}
    path = tmp_path_factory.mktemp("yolo") / "yolo11n.pt"
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}, "epoch": -1}, path)
    return path.read_bytes()


def test_timms_weights_come_with_their_classes_and_preprocessing(
    origin: Origin, resnet: Any, resnet_file: bytes, tmp_path: Path
) -> None:
    origin.files[HUB_PATH] = resnet_file
    origin.headers["X-Linked-ETag"] = f'"{hashlib.sha256(resnet_file).hexdigest()}"'
    path = Timm().fetch_weights("test_resnet", tmp_path, origin.url)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found = classifier.restore(classifier.read(path))
    assert (found.name, len(found.class_names)) == ("test_resnet", 1000)
    assert found.class_names[0] == "tench, Tinca tinca"
    assert found.preprocessing.size == 160
    image = torch.rand(1, 3, 160, 160)
    assert torch.equal(found.network(image), resnet(image))


def test_ultralytics_weights_are_a_checkpoint_like_any(
    origin: Origin, yolo_file: bytes, tmp_path: Path
) -> None:
    origin.files["yolo11n.pt"] = yolo_file
    path = Ultralytics().fetch_weights("yolo11n", tmp_path, origin.url)
    assert path.read_bytes() == yolo_file


@pytest.mark.parametrize("framework", ["ultralytics", "timm"])
def test_what_another_would_execute_is_refused(framework: str, origin: Origin, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (canary,)

    torch.save({"model": Payload(), "state_dict": Payload()}, tmp_path / "evil")
    origin.files["yolo11n.pt"] = origin.files[HUB_PATH] = (tmp_path / "evil").read_bytes()
    used, model = (Ultralytics(), "yolo11n") if framework == "ultralytics" else (Timm(), "test_resnet")
    with pytest.raises(UserError, match="is not a checkpoint that can be used here") as refused:
        used.fetch_weights(model, tmp_path, origin.url)
    assert refused.value.code == code_pb2.FAILED_PRECONDITION
    assert not canary.exists()


def test_bytes_that_are_not_the_announced_ones_are_refused(origin: Origin, tmp_path: Path) -> None:
    origin.files["a.pt"] = b"other bytes"
    origin.headers["X-Linked-ETag"] = "0" * 64
    with pytest.raises(UserError, match=r"not the expected 0000.*: it was not used"):
        download.download(f"{origin.url}/a.pt", tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_what_the_makers_do_not_have_is_the_users_to_know(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"There is no file at {origin.url}/{HUB_PATH}") as refused:
        Timm().fetch_weights("test_resnet", tmp_path, origin.url)
    assert refused.value.reason == "PRETRAINED_UNAVAILABLE"


def test_with_a_list_of_digests_only_its_files_are_fetched(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.files |= {"a.pt": b"a", "b.pt": b"b", "c.pt": b"c"}
    lines = f"{hashlib.sha256(b'a').hexdigest()}  a.pt\n{hashlib.sha256(b'other').hexdigest()} *b.pt\n"
    (tmp_path / "SHA256SUMS").write_text(lines)
    monkeypatch.setenv(download.DIGESTS_VARIABLE, str(tmp_path / "SHA256SUMS"))
    download.download(f"{origin.url}/a.pt", tmp_path / "a.pt")
    with pytest.raises(UserError, match="it was not used"):
        download.download(f"{origin.url}/b.pt", tmp_path / "b.pt")
    with pytest.raises(UserError, match="is not on this runner's list of digests"):
        download.download(f"{origin.url}/c.pt", tmp_path / "c.pt")
    assert origin.asked == ["a.pt", "b.pt"]


def test_a_file_that_is_cut_short_is_not_taken(origin: Origin, tmp_path: Path) -> None:
    origin.files["a.pt"] = b"half"
    origin.headers["Content-Length"] = "8"
    with pytest.raises(download.DownloadFailed, match=r"cut off after 4 of 8|IncompleteRead"):
        download.download(f"{origin.url}/a.pt", tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


def cache(work_dir: Path, mirror: str, framework: str = "timm", **more: Any) -> PublishedWeights:
    settings = AgentSettings(framework=framework, work_dir=work_dir, weights_mirror=mirror, **more)
    manifest = Timm().manifest()
    manifest.fetches_pretrained = settings.pretrained
    return PublishedWeights(settings, manifest, {"PATH": "/usr/bin:/bin", "SECRET": "x"})


def refusal(failed: InputFailed) -> tuple[int, str, str]:
    """Cause, reason and text."""
    info = error_details_pb2.ErrorInfo()
    assert failed.ending.error is not None
    assert failed.ending.error.details[0].Unpack(info)
    return failed.ending.cause, info.reason, failed.ending.error.message


async def test_weights_are_fetched_once_for_all_that_want_them(
    origin: Origin, resnet_file: bytes, tmp_path: Path
) -> None:
    origin.files[HUB_PATH] = resnet_file
    weights = cache(tmp_path, origin.url, pretrained=True)
    paths = await asyncio.gather(*(weights.get("test_resnet") for _ in range(3)))
    assert len(set(paths)) == 1
    assert await cache(tmp_path, "http://127.0.0.1:1", pretrained=True).get("test_resnet") == paths[0]
    assert origin.asked == [HUB_PATH]
    (tmp_path / "weights/1/.part-x").mkdir(parents=True)
    remove_leftovers(tmp_path / "weights")
    assert [path for path in (tmp_path / "weights").rglob("*") if path.is_file()] == [paths[0]]
    assert not (tmp_path / "weights/1/.part-x").exists()


async def test_without_a_network_it_fails_soon_and_says_where(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(InputFailed) as caught:
        await cache(tmp_path, "http://127.0.0.1:1", pretrained=True).get("test_resnet")
    cause, reason, text = refusal(caught.value)
    assert (cause, reason) == (vision_pb2.ATTEMPT_CAUSE_INFRASTRUCTURE, "INFRASTRUCTURE")
    assert f"http://127.0.0.1:1/{HUB_PATH} cannot be fetched: [Errno 111] Connection refused" in text
    print(f"no network: told after {time.monotonic() - began:.1f} s")


@pytest.mark.parametrize(
    ("model", "allowed", "words"),
    [
        ("test_resnet", False, "not allowed to fetch the published weights of 'test_resnet'"),
        ("no_such_model", True, "Nobody has published weights for the model 'no_such_model'"),
        ("../../etc", True, "Nobody has published weights"),
    ],
)
async def test_what_cannot_be_had_is_the_jobs_end(
    origin: Origin, tmp_path: Path, model: str, allowed: bool, words: str
) -> None:
    with pytest.raises(InputFailed) as caught:
        await cache(tmp_path, origin.url, pretrained=allowed).get(model)
    cause, reason, text = refusal(caught.value)
    assert (cause, reason) == (vision_pb2.ATTEMPT_CAUSE_USER_ERROR, "PRETRAINED_UNAVAILABLE")
    assert words in text


def test_the_manifests_say_which_models_have_weights() -> None:
    from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS

    told = {model.name: model.pretrained for model in Ultralytics().manifest().models}
    assert told == {name: name in GITHUB_ASSETS_STEMS for name in told}
    listed = set(timm_weights.list_published())
    assert timm_weights.published() == listed, "run `python -m runners.timm.weights > …/pretrained.txt`"
    assert ultralytics_weights.are_published("yolo11n")


async def test_over_a_mesh(
    origin: Origin, yolo_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inference with published weights; hostile ones, published or uploaded; and an offline mesh."""
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (canary,)

    torch.save({"model": Payload()}, tmp_path / "evil.pt")
    origin.files |= {"yolo11n.pt": yolo_file, "yolov8n.pt": (tmp_path / "evil.pt").read_bytes()}
    monkeypatch.setenv("VISIONMESH_WEIGHTS_MIRROR", origin.url)
    write_shapes(tmp_path / "shapes", train=4, val=2, test=2, size=64)
    settings = MeshSettings(data_dir=tmp_path / "mesh", slots=2, pretrained=True)
    async with local_mesh(settings) as mesh, AsyncClient(mesh.address) as client:
        dataset = await client.create_dataset(tmp_path / "shapes", "shapes")
        upload = await client.upload_file(tmp_path / "evil.pt")
        images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name))
        specs = [
            job_pb2.InferSpec(model="yolo11n", images=images, image_size=64),
            job_pb2.InferSpec(model="yolov8n", images=images, image_size=64),
            job_pb2.InferSpec(checkpoint=upload.name, images=images, image_size=64),
        ]
        jobs = [await client.create_job(job_pb2.Job(infer=spec)) for spec in specs]
        good, *hostile = [await job.wait() for job in jobs]
        assert good.state == vision_pb2.JOB_STATE_SUCCEEDED, good.error
        assert (await jobs[0].result()).inference.total_images == 2
        for job in hostile:
            assert job.state == vision_pb2.JOB_STATE_FAILED
            assert job.error.code == code_pb2.FAILED_PRECONDITION, job.error
            assert "could execute code" in job.error.message
            assert job.failure_count == len(job.attempts) == 1  # nobody tries it again
            assert job.attempts[0].cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR
        assert not canary.exists()
        spec = job_pb2.TrainSpec(
            model="yolo11n", dataset=dataset.name, epochs=1, image_size=32, batch_size=2, pretrained=True
        )
        training = await client.create_job(job_pb2.Job(train=spec))
        ended = await training.wait()
        assert ended.state == vision_pb2.JOB_STATE_SUCCEEDED, ended.error
        assert sorted(set(origin.asked)) == ["yolo11n.pt", "yolov8n.pt"]
        assert origin.asked.count("yolo11n.pt") == 1
        lines = [
            event.update.log_line.message
            async for event in training.watch()
            if event.update.HasField("log_line")
        ]
        assert any("Transferred" in line for line in lines), json.dumps(lines)
