"""A real scheduler on a free port and a folder of its own, a dataset on it, and a command line before it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from command_line import CommandLine, at_a_command_line
from live_scheduler import Mesh, StartMesh, numbers, running

from visionmesh.shapes import write_shapes
from visionmesh.v1 import dataset_pb2, job_pb2


@pytest.fixture
def start_mesh(tmp_path: Path) -> StartMesh:
    """Starts a scheduler with settings of the test's choice: `async with start_mesh(lease_seconds=1)`."""
    return lambda **flags: running(tmp_path / "data", **flags)


@pytest.fixture(scope="module")
def mesh_settings() -> dict[str, object]:
    """What the scheduler of a module is told; a folder of tests may say something else."""
    return {"bookmark_seconds": 0.2}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    tmp_path_factory: pytest.TempPathFactory, mesh_settings: dict[str, object]
) -> AsyncIterator[Mesh]:
    """One scheduler for the tests of a module."""
    async with running(tmp_path_factory.mktemp("mesh"), **mesh_settings) as started:
        yield started


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small labelled image set."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=6, val=4, test=3, size=32)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dataset(mesh: Mesh, shapes_folder: Path) -> dataset_pb2.Dataset:
    """The image set, uploaded once per module."""
    return await mesh.client.create_dataset(shapes_folder, dataset_id="shapes")


@pytest.fixture
def framework() -> str:
    """A framework that no other test has runners of: tests on one scheduler stay apart."""
    return f"framework_{next(numbers)}"


@pytest.fixture
def a_train(dataset: dataset_pb2.Dataset, framework: str) -> Callable[..., job_pb2.Job]:
    """Makes trainings of the test's own framework on the uploaded image set."""

    def make(**fields: Any) -> job_pb2.Job:
        spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name, epochs=3)
        return job_pb2.Job(train=spec, **({"framework": framework} | fields))

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def command_line(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandLine]:
    """The module's scheduler with all that a command line needs around it."""
    async with at_a_command_line(mesh, tmp_path_factory.mktemp("home")) as made:
        yield made
