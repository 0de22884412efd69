"""Datasets over real gRPC: made once, refused when broken, listed in pages, deleted when free."""

import asyncio
import shutil
import zipfile
from pathlib import Path

import pytest
from dataset_copies import as_coco, as_images_json
from live_scheduler import Mesh

from visionmesh.errors import MeshError
from visionmesh.shapes import CLASS_NAMES, write_class_folders, write_shapes
from visionmesh.v1 import dataset_pb2, job_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_same_files_under_the_same_name_are_the_same_dataset(
    mesh: Mesh, shapes_folder: Path
) -> None:
    first = await mesh.client.create_dataset(shapes_folder, dataset_id="twice")
    assert await mesh.client.create_dataset(shapes_folder, dataset_id="twice") == first


async def test_of_two_that_want_one_name_at_once_one_wins_whole(mesh: Mesh, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_shapes(tmp_path / str(seed), train=4, val=2, test=0, size=32, seed=seed)
    made = await asyncio.gather(
        *(mesh.client.create_dataset(tmp_path / str(seed), dataset_id="wanted") for seed in (1, 2)),
        return_exceptions=True,
    )
    won = [dataset for dataset in made if isinstance(dataset, dataset_pb2.Dataset)]
    lost = [error for error in made if isinstance(error, MeshError)]
    assert (len(won), [error.reason for error in lost]) == (1, ["ALREADY_EXISTS"])
    job = job_pb2.Job(framework="nobody", train=job_pb2.TrainSpec(model="yolo11n", dataset="datasets/wanted"))
    assert (await mesh.create(job)).reproducibility.dataset_digest == won[0].digest


async def test_the_other_layout_is_stored_like_the_first(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=4, val=2, test=2, size=32)
    other = tmp_path / "b"
    other.mkdir()
    (other / "data.yaml").write_bytes((tmp_path / "a" / "data.yaml").read_bytes())
    for kind in ("images", "labels"):
        for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
            (other / folder).mkdir(exist_ok=True)
            (tmp_path / "a" / kind / split).rename(other / folder / kind)
    dataset = await mesh.client.create_dataset(other, dataset_id="other-layout")
    assert [(split.name, split.images) for split in dataset.splits] == [("train", 4), ("val", 2), ("test", 2)]
    folder = mesh.folder / "datasets" / "datasets" / "other-layout"
    assert len(list((folder / "images" / "val").iterdir())) == 2
    assert len(list((folder / "labels" / "val").iterdir())) == 2


async def test_coco_is_found_out_and_its_images_are_those_of_a_split(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=4, val=2, test=2, size=32)
    copy = as_coco(tmp_path / "a", tmp_path / "coco", 32)
    (copy / "images" / "val").rename(copy / "val2017")
    dataset = await mesh.client.create_dataset(copy, dataset_id="coco")
    assert (dataset.format, dataset.task) == (dataset_pb2.DATASET_FORMAT_COCO, vision_pb2.TASK_DETECT)
    plain = await mesh.client.create_dataset(tmp_path / "a", dataset_id="plain")
    assert (plain.splits, plain.class_names) == (dataset.splits, dataset.class_names)
    folder = mesh.folder / "datasets" / "datasets" / "coco"
    assert len(list((folder / "images" / "val").iterdir())) == 2
    assert (folder / "annotations" / "instances_val.json").is_file()


async def test_class_folders_are_found_out(mesh: Mesh, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "a", train=6, val=3, test=0, size=32)
    (tmp_path / "a" / "val").rename(tmp_path / "a" / "valid")
    dataset = await mesh.client.create_dataset(tmp_path / "a", dataset_id="classes")
    assert (dataset.format, dataset.task) == (
        dataset_pb2.DATASET_FORMAT_CLASS_FOLDERS,
        vision_pb2.TASK_CLASSIFY,
    )
    assert [(split.name, split.instances) for split in dataset.splits] == [("train", 6), ("val", 3)]
    folder = mesh.folder / "datasets" / "datasets" / "classes" / "val"
    assert sorted(path.name for path in folder.iterdir()) == list(CLASS_NAMES)


async def test_a_dataset_without_splits_gets_them(mesh: Mesh, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "a", train=30, val=0, test=0, size=32)
    dataset = await mesh.client.create_dataset(tmp_path / "a" / "train", dataset_id="unsplit")
    assert dataset.format == dataset_pb2.DATASET_FORMAT_CLASS_FOLDERS
    assert [(split.name, split.images) for split in dataset.splits] == [("train", 24), ("val", 6)]
    folder = mesh.folder / "datasets" / "datasets" / "unsplit"
    assert sorted(path.name for path in folder.iterdir()) == ["train", "val"]
    assert len(list((folder / "val" / "circle").iterdir())) == 2
    again = await mesh.client.create_dataset(tmp_path / "a" / "train", dataset_id="unsplit")
    assert again == dataset


async def test_images_with_json_are_found_out_split_and_counted(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=20, val=0, test=0, size=32, task="segment")
    copy = as_images_json(tmp_path / "a", tmp_path / "json", 32)
    for kind in ("images", "annotations"):  # as it lies in a bucket: no splits
        for path in (copy / kind / "train").iterdir():
            path.rename(copy / kind / path.name)
        (copy / kind / "train").rmdir()
    dataset = await mesh.client.create_dataset(copy, dataset_id="json")
    assert (dataset.format, dataset.task) == (dataset_pb2.DATASET_FORMAT_IMAGES_JSON, vision_pb2.TASK_SEGMENT)
    assert [(split.name, split.images) for split in dataset.splits] == [("train", 16), ("val", 4)]
    for split in dataset.splits:
        assert sum(split.class_instances) == split.instances > 0
    folder = mesh.folder / "datasets" / "datasets" / "json"
    assert len(list((folder / "images" / "val").iterdir())) == 4
    names = {path.stem for path in (folder / "images" / "val").iterdir()}
    assert {path.stem for path in (folder / "annotations" / "val").iterdir()} == names


async def test_one_listing_of_all_images_is_stored_as_one_for_each_split(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=10, val=0, test=0, size=32, task="pose")
    copy = as_coco(tmp_path / "a", tmp_path / "coco", 32)
    (copy / "annotations/instances_train.json").rename(copy / "annotations/instances_default.json")
    for path in (copy / "images/train").iterdir():
        path.rename(copy / "images" / path.name)
    (copy / "images/train").rmdir()
    dataset = await mesh.client.create_dataset(copy, dataset_id="listing")
    assert [(split.name, split.images) for split in dataset.splits] == [("train", 8), ("val", 2)]
    assert list(dataset.keypoint_names) == ["top", "right", "left"]
    stored = mesh.folder / "datasets" / "datasets" / "listing"
    kept = {path.name for path in (stored / "annotations").iterdir()}
    assert kept == {"instances_train.json", "instances_val.json"}
    assert await mesh.client.create_dataset(copy, dataset_id="listing") == dataset


async def test_a_task_may_be_told_and_must_be_one_of_the_labels(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=4, val=2, test=0, size=32, task="obb")
    found = await mesh.client.create_dataset(tmp_path / "a", dataset_id="corners")
    assert found.task == vision_pb2.TASK_OBB
    told = await mesh.client.create_dataset(
        tmp_path / "a", dataset_id="outlines", task=vision_pb2.TASK_SEGMENT
    )
    assert (told.task, told.digest) == (vision_pb2.TASK_SEGMENT, found.digest)
    with pytest.raises(MeshError) as refused:
        await mesh.client.create_dataset(tmp_path / "a", dataset_id="no", task=vision_pb2.TASK_POSE)
    (violation,) = refused.value.violations
    assert (refused.value.reason, violation.field) == ("DATASET_INVALID", "dataset.task")
    assert "the labels are for obb or segment or detect, not for pose: there is no `kpt_shape" in (
        violation.description
    )
    for task, fits in ((vision_pb2.TASK_OBB, False), (vision_pb2.TASK_DETECT, True)):
        spec = job_pb2.TrainSpec(model="yolo11n", dataset="datasets/outlines", task=task)
        job = job_pb2.Job(framework="nobody", train=spec)
        if fits:
            await mesh.create(job)
            continue
        with pytest.raises(MeshError, match="is labelled for segment, and the job is to obb"):
            await mesh.create(job)


async def test_a_layout_that_is_told_must_be_that_of_the_files(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=4, val=2, test=0, size=32)
    upload = await mesh.client.upload_file(
        Path(shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "a"))
    )
    asked = dataset_pb2.Dataset(format=dataset_pb2.DATASET_FORMAT_YOLO)
    request = dataset_pb2.CreateDatasetRequest(dataset=asked, upload=upload.name, validate_only=True)
    assert (await mesh.call(mesh.datasets.CreateDataset, request)).format == asked.format
    request.dataset.format = dataset_pb2.DATASET_FORMAT_COCO
    with pytest.raises(MeshError, match="the files are laid out as yolo") as refused:
        await mesh.call(mesh.datasets.CreateDataset, request)
    assert [violation.field for violation in refused.value.violations] == ["dataset.format"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("images/../../a.json", "leads out of the archive"),
        ("annotations/A.json", "are one name on many disks"),
    ],
)
async def test_an_archive_that_is_refused_is_refused_whatever_its_layout(
    mesh: Mesh, tmp_path: Path, name: str, words: str
) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("images/a.jpg", b"")
        archive.writestr("annotations/a.json", '{"objects": []}')
        archive.writestr(name, "{}")
    with pytest.raises(MeshError, match=words) as refused:
        await mesh.client.create_dataset(tmp_path / "bad.zip", dataset_id="bad")
    assert refused.value.reason == "BAD_ARCHIVE"


async def test_broken_labels_are_named_by_file_and_line(mesh: Mesh, tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=4, val=2, test=0, size=32)
    label = sorted((tmp_path / "a" / "labels" / "train").iterdir())[1]
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    line = len(label.read_text().splitlines())
    with pytest.raises(MeshError) as refused:
        await mesh.client.create_dataset(tmp_path / "a", dataset_id="broken")
    assert refused.value.reason == "DATASET_INVALID"
    assert [violation.field for violation in refused.value.violations] == [
        f"labels/train/{label.name}:{line}"
    ]
    assert "class 7" in refused.value.violations[0].description


async def test_a_dataset_that_a_job_waits_for_is_kept(mesh: Mesh, shapes_folder: Path) -> None:
    await mesh.client.create_dataset(shapes_folder, dataset_id="used")
    job = await mesh.create(
        job_pb2.Job(framework="nobody", train=job_pb2.TrainSpec(model="yolo11n", dataset="datasets/used"))
    )
    request = dataset_pb2.DeleteDatasetRequest(name="datasets/used")
    with pytest.raises(MeshError) as refused:
        await mesh.call(mesh.datasets.DeleteDataset, request)
    assert refused.value.reason == "DATASET_IN_USE"
    await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=job.name))
    await mesh.call(mesh.datasets.DeleteDataset, request)
    assert not (mesh.folder / "datasets" / "datasets" / "used").exists()


async def test_pages_of_datasets_have_no_gap_and_no_repeat(mesh: Mesh, shapes_folder: Path) -> None:
    wanted = {f"datasets/page-{number}" for number in range(5)}
    for name in sorted(wanted):
        await mesh.client.create_dataset(shapes_folder, dataset_id=name.removeprefix("datasets/"))
    found: list[str] = []
    request = dataset_pb2.ListDatasetsRequest(page_size=2)
    while True:
        page = await mesh.call(mesh.datasets.ListDatasets, request)
        found += [dataset.name for dataset in page.datasets]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(found) == len(set(found))
    assert wanted <= set(found)
