"""Both ways of an attempt's files, through the scheduler and to the bucket itself: one suite for the two."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from ceph_server import CephServer
from live_scheduler import Mesh, running

from runners.agent.bucket_transfers import Buckets, BucketTransfers
from runners.agent.transfers import Damaged, SchedulerTransfers, Transfers
from visionmesh.errors import MeshError, Reason
from visionmesh.storage import ObjectStore, open_store
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")
frameworks = (f"transfers_{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def buckets(ceph: CephServer) -> Iterator[dict[str, str]]:
    """Two buckets, and an environment in which scheduler and agent may use them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ceph.variables.items():
            patch.setenv(name, value)
        yield {f"{name}_url": f"s3://{ceph.new_bucket()}/mesh" for name in ("datasets", "artifacts")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, buckets: dict[str, str]) -> AsyncIterator[Mesh]:
    async with running(tmp_path_factory.mktemp("mesh"), **buckets) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def datasets(buckets: dict[str, str]) -> AsyncIterator[ObjectStore]:
    store = open_store(buckets["datasets_url"])
    yield store
    await store.close()


class Taken:
    """An attempt that a runner has taken, and what it moves its files with."""

    def __init__(self, mesh: Mesh, runner: Any, assignment: runner_pb2.Assignment) -> None:
        self.assignment, self.mesh = assignment, mesh
        self.ref = runner_pb2.AttemptRef(job=assignment.job.name, attempt=assignment.attempt)
        self.scheduler = SchedulerTransfers(runner.stub, self.ref)
        self.buckets = Buckets()
        self.warnings: list[str] = []
        self.direct = BucketTransfers(self.scheduler, self.buckets, assignment, self.warnings.append)

    def header(self, path: str, data: bytes) -> runner_pb2.StoreObjectHeader:
        return runner_pb2.StoreObjectHeader(
            job=self.ref.job, attempt=self.ref.attempt, path=path,
            size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
        )  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module")
async def taken(mesh: Mesh, dataset: dataset_pb2.Dataset, checkpoint: str) -> AsyncIterator[Taken]:
    framework = next(frameworks)
    spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name, epochs=1, checkpoint=checkpoint)
    async with mesh.runner(framework) as runner:
        await mesh.create(job_pb2.Job(train=spec, framework=framework))
        made = Taken(mesh, runner, await runner.take())
        yield made
        await made.buckets.close()


LARGE = hashlib.shake_256(b"weights").digest(5 * 1024 * 1024 + 1)


@pytest_asyncio.fixture(loop_scope="module")
async def checkpoint(mesh: Mesh) -> str:
    return str((await mesh.upload("weights.pt", LARGE)).name)


@pytest.fixture(params=["scheduler", "direct"])
def transfers(request: pytest.FixtureRequest, taken: Taken) -> Transfers:
    found: Transfers = getattr(taken, request.param)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def fetched(transfers: Transfers, folder: Path, *uris: str) -> dict[str, bytes]:
    """What came, by path; each file was announced as arrived."""
    arrived: list[str] = []
    await transfers.fetch(uris, lambda h: folder / h.path, lambda h: arrived.append(h.path))
    found = files_of(folder)
    assert sorted(arrived) == sorted(found)
    return found


async def test_a_dataset_comes_whole(
    transfers: Transfers, taken: Taken, tmp_path: Path, shapes_folder: Path
) -> None:
    found = await fetched(transfers, tmp_path, taken.assignment.dataset.uri)
    images = {path: data for path, data in files_of(shapes_folder).items() if path.startswith("images/")}
    assert len(images) == 13
    assert images.items() <= found.items()
    assert transfers.meter.files == len(found)
    assert transfers.meter.size_bytes == sum(map(len, found.values()))


async def test_single_objects_come(transfers: Transfers, taken: Taken, tmp_path: Path) -> None:
    found = await fetched(transfers, tmp_path, taken.assignment.checkpoint.uri)
    assert list(found.values()) == [LARGE]


@pytest.mark.parametrize("size", [0, 10, 9 * 1024 * 1024])
async def test_a_file_is_stored_in_the_folder_of_the_attempt(
    transfers: Transfers, taken: Taken, tmp_path: Path, buckets: dict[str, str], size: int
) -> None:
    data = hashlib.shake_256(b"file").digest(size)
    (tmp_path / "file").write_bytes(data)
    header = taken.header("sub/best.pt", data)
    uri = await transfers.store(header, tmp_path / "file")
    assert uri == f"{buckets['artifacts_url']}/attempts/{taken.ref.job.removeprefix('jobs/')}/1/sub/best.pt"
    store = open_store(buckets["artifacts_url"])
    try:
        found = await store.stat(store.key_of(uri) or "")
        assert found is not None
        assert (found.size_bytes, found.sha256) == (size, header.sha256)
        assert b"".join([chunk async for chunk in store.get(found.key)]) == data
    finally:
        await store.close()


async def test_a_file_that_is_not_as_announced_is_refused(
    transfers: Transfers, taken: Taken, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"something else")
    with pytest.raises(MeshError) as refusal:
        await transfers.store(taken.header("best.pt", b"something wanted"), tmp_path / "file")
    assert refusal.value.code is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("how", ["replaced", "flipped", "truncated"])
async def test_a_damaged_object_is_never_taken(
    transfers: Transfers, taken: Taken, tmp_path: Path, datasets: ObjectStore, how: str
) -> None:
    uri = taken.assignment.checkpoint.uri
    key = datasets.key_of(uri) or ""
    flipped = bytes([LARGE[0] ^ 1]) + LARGE[1:]
    found = await datasets.stat(key)
    assert found is not None
    client = await datasets._bucket.client()  # type: ignore[attr-defined]
    await client.put_object(
        Bucket=datasets._bucket.name,  # type: ignore[attr-defined]
        Key=datasets._path(key),  # type: ignore[attr-defined]
        Body=LARGE[:-5] if how == "truncated" else flipped,
        # A disk that flips bits leaves the noted digest as it was.
        Metadata={"sha256": found.sha256} if how == "flipped" else {},
    )
    with pytest.raises(Damaged):
        await fetched(transfers, tmp_path, uri)


async def test_an_object_that_is_gone(
    transfers: Transfers, taken: Taken, tmp_path: Path, datasets: ObjectStore
) -> None:
    uri = taken.assignment.checkpoint.uri
    await datasets.delete(datasets.key_of(uri) or "")
    with pytest.raises(MeshError) as refusal:
        await fetched(transfers, tmp_path, uri)
    assert refusal.value.code is grpc.StatusCode.NOT_FOUND


async def test_nothing_but_the_inputs_of_a_live_attempt(
    transfers: Transfers, taken: Taken, tmp_path: Path
) -> None:
    elsewhere = taken.assignment.output_uri + "best.pt"
    with pytest.raises(MeshError) as refusal:
        await fetched(transfers, tmp_path, elsewhere)
    assert refusal.value.code is grpc.StatusCode.PERMISSION_DENIED
    taken.ref.attempt = 7
    with pytest.raises(MeshError) as refusal:
        await fetched(transfers, tmp_path, taken.assignment.checkpoint.uri)
    assert refusal.value.reason == Reason.ATTEMPT_SUPERSEDED


async def test_what_came_before_a_break_is_not_fetched_again(taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(LARGE[: 3 * 1024 * 1024])
    uris = [taken.assignment.checkpoint.uri]
    for _ in range(2):  # the second time everything is there
        await taken.direct.fetch(uris, lambda _: tmp_path / "weights.pt", lambda _: None)
    assert (tmp_path / "weights.pt").read_bytes() == LARGE
    assert taken.direct.meter.size_bytes == len(LARGE) - 3 * 1024 * 1024


async def test_what_came_wrong_before_a_break_begins_anew(taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"wrong")
    uris = [taken.assignment.checkpoint.uri]
    with pytest.raises(Damaged):
        await taken.direct.fetch(uris, lambda _: tmp_path / "weights.pt", lambda _: None)
    await taken.direct.fetch(uris, lambda _: tmp_path / "weights.pt", lambda _: None)
    assert (tmp_path / "weights.pt").read_bytes() == LARGE


async def moved(taken: Taken, folder: Path) -> None:
    """Fetch and store, whichever way."""
    found = await fetched(taken.direct, folder / "in", taken.assignment.checkpoint.uri)
    assert list(found.values()) == [LARGE]
    (folder / "file").write_bytes(b"out")
    assert await taken.direct.store(taken.header("out", b"out"), folder / "file")


async def test_without_credentials_files_go_through_the_scheduler(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORAGE_ACCESS_KEY", "STORAGE_SECRET_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    await moved(taken, tmp_path)
    assert await taken.direct._stores() == []
    assert taken.warnings == []


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("STORAGE_SECRET_KEY", "wrong", "does not accept who asks"),
        ("STORAGE_ENDPOINT", "http://127.0.0.1:9", "does not answer"),
        ("STORAGE_TIMEOUT_SECONDS", "soon", "STORAGE_TIMEOUT_SECONDS = 'soon'"),
    ],
)
async def test_where_the_bucket_cannot_be_used_files_go_through_the_scheduler(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv(variable, value)
    await moved(taken, tmp_path)
    assert len(taken.warnings) == 2
    assert why in taken.warnings[0]


async def test_a_bucket_that_refuses_in_the_middle_is_not_asked_again(
    taken: Taken, tmp_path: Path, ceph: CephServer, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = ceph.new_user()
    for url in buckets.values():
        ceph.let_list(url.split("/")[2], stranger)
    monkeypatch.setenv("STORAGE_ACCESS_KEY", stranger.access_key)
    monkeypatch.setenv("STORAGE_SECRET_KEY", stranger.secret_key)
    with pytest.raises(MeshError) as refusal:
        await moved(taken, tmp_path)
    assert (refusal.value.code, refusal.value.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
    )
    await moved(taken, tmp_path)
    assert "refused (AccessDenied" in taken.warnings[0]
