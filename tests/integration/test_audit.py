"""`vmesh audit` against schedulers that serve copies of one database, with faults planted in them."""

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio
from live_scheduler import Mesh, running
from runner_double import RunnerDouble, ended, epoch
from typer.testing import CliRunner, Result

from visionmesh import names
from visionmesh.cli import app
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2, result_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Recorded:
    """A data folder with a training and an inference that have ended."""

    def __init__(self, folder: Path, training: str, inference: str) -> None:
        self.folder, self.training, self.inference = folder, training, inference


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded") / "data"
    shapes = tmp_path_factory.mktemp("shapes")
    write_shapes(shapes, train=2, val=2, test=3, size=32)
    async with running(folder) as mesh, mesh.runner("ultralytics") as runner:
        await mesh.client.create_dataset(shapes, dataset_id="shapes")
        training = await run_training(mesh, runner)
        inference = await run_inference(mesh, runner, f"{training}/artifacts/best")
    return Recorded(folder, training, inference)


async def run_training(mesh: Mesh, runner: RunnerDouble) -> str:
    spec = job_pb2.TrainSpec(model="yolo11n", dataset="datasets/shapes", epochs=3)
    job = await mesh.create(job_pb2.Job(train=spec))
    best = result_pb2.ResultItem()
    best.artifact.name = f"{job.name}/artifacts/best"
    summary = result_pb2.TrainingResult(
        best_epoch=3,
        epochs_completed=3,
        best_metrics={"mAP50": 0.3},
        final_metrics={"mAP50": 0.3},
        checkpoints=[best.artifact.name],
    )
    assignment, stream = await runner.start()
    best.artifact.uri = await runner.store(job.name, assignment.attempt, "best.pt", b"weights")
    best.artifact.size_bytes = len(b"weights")
    best.artifact.sha256 = hashlib.sha256(b"weights").hexdigest()
    await stream.send(*(epoch(number, mAP50=number / 10) for number in (1, 2, 3)))
    results = await runner.results(job.name, assignment.attempt)
    await results.send(best, result_pb2.ResultItem(training=summary))
    await stream.send(ended(results_number=2))
    return job.name


async def run_inference(mesh: Mesh, runner: RunnerDouble, checkpoint: str) -> str:
    images = job_pb2.ImageSource(
        dataset_images=job_pb2.DatasetImages(dataset="datasets/shapes", split="test")
    )
    spec = job_pb2.InferSpec(checkpoint=checkpoint, images=images)
    job = await mesh.create(job_pb2.Job(infer=spec))
    assignment, stream = await runner.start()
    results = await runner.results(job.name, assignment.attempt)
    circle = result_pb2.Detection(class_name="circle")
    for index in range(3):
        prediction = result_pb2.ImagePrediction(index=index, width=32, height=32, detections=[circle])
        await results.send(result_pb2.ResultItem(prediction=prediction))
    totals = result_pb2.InferenceResult(total_images=3, detections_per_class={"circle": 3})
    await results.send(result_pb2.ResultItem(inference=totals))
    await stream.send(ended(results_number=4))
    return job.name


async def audit(folder: Path, *arguments: str) -> Result:
    """Serve the data folder and run `vmesh audit` on it."""
    async with running(folder) as mesh:
        command = ["audit", *arguments, "--address", mesh.address]
        return await asyncio.to_thread(CliRunner().invoke, app, command)


Plant = Callable[[sqlite3.Connection, str], None]


def a_gap(database: sqlite3.Connection, job_id: str) -> None:
    one = "kind = 'epoch_completed' ORDER BY sequence LIMIT 1"
    database.execute(
        f"DELETE FROM events WHERE job_id = ? AND sequence = "  # noqa: S608 - of our own making
        f"(SELECT sequence FROM events WHERE job_id = ? AND {one})",
        (job_id, job_id),
    )


def a_lost_prediction(database: sqlite3.Connection, job_id: str) -> None:
    database.execute("DELETE FROM predictions WHERE job_id = ? AND image_index = 1", (job_id,))


def a_duplicate(database: sqlite3.Connection, job_id: str) -> None:
    """The second epoch once more, with the next number: as a resend that was not recognised."""
    database.execute("UPDATE jobs SET sequence = sequence + 1 WHERE id = ?", (job_id,))
    database.execute(
        "INSERT INTO events SELECT job_id, (SELECT sequence FROM jobs WHERE id = job_id), attempt, kind, "
        "commit_time, payload FROM events WHERE job_id = ? AND kind = 'epoch_completed' "
        "ORDER BY sequence LIMIT 1 OFFSET 1",
        (job_id,),
    )


def a_wrong_count(database: sqlite3.Connection, job_id: str) -> None:
    (stored,) = database.execute("SELECT result FROM jobs WHERE id = ?", (job_id,)).fetchone()
    result = result_pb2.Result.FromString(stored)
    if result.HasField("inference"):
        result.inference.total_images += 1
    else:
        result.training.epochs_completed += 1
    database.execute("UPDATE jobs SET result = ? WHERE id = ?", (result.SerializeToString(), job_id))


def nothing(database: sqlite3.Connection, job_id: str) -> None:
    pass


@pytest.mark.parametrize(
    ("kind", "plant", "code", "texts"),
    [
        ("training", nothing, 0, ["whole", "3 epochs, the best was 3"]),
        ("inference", nothing, 0, ["whole", "3 predictions"]),
        ("training", a_gap, 1, ["sequence 4 is missing", "listed and not in the history"]),
        ("inference", a_lost_prediction, 1, ["missing", "counts 3 images, 2 predictions are stored"]),
        ("training", a_duplicate, 1, ["epoch 2 of attempt 1 is stored 2 times", "its history goes on"]),
        ("training", a_wrong_count, 1, ["it counts 4 epochs, the history ends with epoch 3"]),
        ("inference", a_wrong_count, 1, ["it counts 4 images, 3 predictions are stored"]),
    ],
)
async def test_what_is_planted_is_found(
    recorded: Recorded, tmp_path: Path, kind: str, plant: Plant, code: int, texts: list[str]
) -> None:
    job = getattr(recorded, kind)
    folder = tmp_path / "data"
    shutil.copytree(recorded.folder, folder)
    with sqlite3.connect(folder / "visionmesh.db") as database:
        plant(database, names.job_id(job))
    database.close()
    ran = await audit(folder, job)
    assert ran.exit_code == code, ran.output
    for text in texts:
        assert text in " ".join(ran.stdout.split()), ran.stdout


async def test_files_are_compared_with_their_digests(recorded: Recorded) -> None:
    whole = await audit(recorded.folder, recorded.training, "--files")
    assert whole.exit_code == 0, whole.output
    files = [path for path in (recorded.folder / "artifacts").rglob("*") if path.is_file()]
    stored = [path for path in files if path.read_bytes() == b"weights"]  # the attempt's, and as published
    for path in stored:
        path.write_bytes(b"weighty")
    try:
        damaged = await audit(recorded.folder, recorded.training, "--files")
    finally:
        for path in stored:
            path.write_bytes(b"weights")
    assert damaged.exit_code == 1
    assert f"{recorded.training}/artifacts/best: What arrived" in damaged.stdout


async def test_a_job_that_runs_is_not_audited(recorded: Recorded) -> None:
    async with running(recorded.folder) as mesh:
        spec = job_pb2.TrainSpec(model="yolo11n", dataset="datasets/shapes")
        job = await mesh.create(job_pb2.Job(train=spec))
        command = ["audit", job.name, "--address", mesh.address]
        ran = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert ran.exit_code == 2
    assert "has not ended" in ran.stderr
    assert "JOB_NOT_ENDED" in ran.stderr
