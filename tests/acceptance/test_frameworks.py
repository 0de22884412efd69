"""The kit for frameworks passes ours and the documented example, which runs on a mesh as it is."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import framework_page
import pytest
import ultralytics

from runners.framework_kit.__main__ import check as outcomes
from runners.framework_kit.kit import RULES, Kit, Trial
from visionmesh.cli.mesh import MeshSettings, local_mesh
from visionmesh.client import AsyncClient
from visionmesh.shapes import write_class_folders
from visionmesh.v1 import job_pb2, vision_pb2

pytestmark = pytest.mark.timeout(240)

MOST_LINES = 60
WIDEST = 110
Said = list[tuple[str, str, str]]


def all_rules(framework: str, trial: Trial, folder: Path) -> Said:
    with Kit(framework, trial, folder) as kit:
        said = [(outcome.rule, outcome.state, outcome.seen) for outcome in outcomes(kit, list(RULES))]
    print(*said, sep="\n")
    return said


def not_kept(said: Said) -> Said:
    return [one for one in said if one[1] != "kept"]


@pytest.fixture(scope="module")
def timm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, Path]:
    """What is said of timm, and a checkpoint that it has left."""
    folder = tmp_path_factory.mktemp("timm")
    said = all_rules("timm", Trial(model="test_efficientnet_gn"), folder)
    return said, folder / "jobs" / "trained" / "best.safetensors"


def test_timm_keeps_every_rule(timm: tuple[Said, Path]) -> None:
    said, _ = timm
    assert not_kept(said) == []
    assert len(said) == len(RULES)


def test_ultralytics_keeps_every_rule(tmp_path: Path) -> None:
    quick = {"nbs": 4, "warmup_epochs": 0, "mosaic": 0}
    said = all_rules("ultralytics", Trial(model="yolo11n", hyperparameters=quick), tmp_path)
    assert not_kept(said) == []
    assert len(said) >= 30


def test_faces_keeps_every_rule(timm: tuple[Said, Path], tmp_path: Path) -> None:
    people = tmp_path / "people"
    people.mkdir()
    for path in (Path(ultralytics.__file__).parent / "assets").glob("*.jpg"):
        for number in range(3):
            shutil.copyfile(path, people / f"{number}-{path.name}")
    trial = Trial(images=people, embedding_checkpoint=timm[1])
    said = all_rules("faces", trial, tmp_path / "kit")
    assert not_kept(said) == []
    assert len(said) >= 18


def test_the_example_is_short() -> None:
    lines = [line for line in framework_page.modules()["nearest_colour.py"].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= WIDEST


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's package, installed where every process finds it."""
    source = framework_page.write(tmp_path_factory.mktemp("source"))
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    with framework_page.on_python_path(target):
        yield target


def test_the_example_as_a_package_keeps_every_rule_by_the_pages_own_test(
    package: Path, tmp_path: Path
) -> None:
    (tmp_path / "test_nearest_colour.py").write_text(framework_page.own_test(), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stdout
    assert f"{len(RULES)} passed" in ran.stdout


async def test_a_mesh_runs_jobs_of_the_example(package: Path, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "shapes", train=30, val=9, test=6)
    settings = MeshSettings(data_dir=tmp_path / "mesh", frameworks=("looking_colour:LookingColour",))
    async with local_mesh(settings) as mesh, AsyncClient(mesh.address) as client:
        dataset = await client.create_dataset(tmp_path / "shapes", "shapes")
        spec = job_pb2.TrainSpec(model="mean", dataset=dataset.name, epochs=3)
        training = await client.create_job(job_pb2.Job(framework="nearest_colour", train=spec))
        images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name))
        asked = job_pb2.InferSpec(checkpoint=f"{training.name}/artifacts/best", images=images)
        inference = await client.create_job(job_pb2.Job(framework="nearest_colour", infer=asked))
        for job in (training, inference):
            ended = await job.wait()
            assert ended.state == vision_pb2.JOB_STATE_SUCCEEDED, ended.error
        learned = (await training.result()).training
        found = [prediction async for prediction in inference.predictions()]
    right = [p for p in found if f"/test/{p.classifications[0].class_name}/" in p.image_uri]
    print(f"accuracy {learned.best_metrics['accuracy_top1']:.2f}, {len(right)} of {len(found)} new images")
    assert learned.epochs_completed == 3
    assert len(found) == 6
    assert len(right) >= 4  # by chance 2 would be
