"""RT-DETR, YOLO-World, SAM and SAM 2, which no weights are needed for: they are made with random ones."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_recorder import JobRun
from PIL import Image

from runners.process.errors import Stopped, UserError
from runners.ultralytics.framework import Ultralytics
from runners.vision import masks
from visionmesh.shapes import CLASS_NAMES, write_class_folders, write_shapes
from visionmesh.v1 import job_pb2, result_pb2

pytestmark = [
    # What torch and ultralytics warn of is theirs to mend.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),
]

Run = partial(JobRun, Ultralytics())
SIDE = 256  # of the network input; SAM is made for 1024


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=8, val=4, test=2, size=64)
    return folder


def test_a_stopped_classification_goes_on_and_can_be_started_from(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "data", train=12, val=6, test=0, size=32)

    def train(name: str, **settings: Any) -> JobRun:
        values = {"epochs": 3, "batch_size": 6, "image_size": 32, "model_name": "yolov8n-cls"}
        values |= {"dataset_path": tmp_path / "data", "output_path": tmp_path / name, **settings}
        return Run(kind="train", **values)

    stopped = train("stopped", stop_at=8)
    with pytest.raises(Stopped):
        stopped.go()
    assert [epoch.epoch for epoch in stopped.updates("epoch_completed")] == [1]
    resumed = train("resumed", resume=True, checkpoint_path=tmp_path / "stopped/last.pt").go()
    assert [epoch.epoch for epoch in resumed.updates("epoch_completed")] == [2, 3]
    assert "accuracy_top1" in resumed.results("training")[-1].best_metrics
    best = tmp_path / "stopped/best.pt"
    write_class_folders(tmp_path / "other", train=12, val=6, test=0, size=32)
    for split in ("train", "val"):  # two classes where the checkpoint knows three
        shutil.rmtree(tmp_path / "other" / split / "circle")
    next_one = train("next", model_name=None, epochs=1, checkpoint_path=best, dataset_path=tmp_path / "other")
    assert list(next_one.go().results("training")[-1].class_names) == ["square", "triangle"]


def test_yolo_world_keeps_its_vocabulary(shapes: Path, tmp_path: Path) -> None:
    """Its classes are vectors, drawn by the seed: a training that starts from a checkpoint keeps those."""
    from runners.ultralytics import checkpoints

    def train(name: str, **settings: Any) -> Any:
        values = {"epochs": 1, "batch_size": 4, "image_size": 64, "learning_rate": 1e-5, **settings}
        run = Run(kind="train", dataset_path=shapes, output_path=tmp_path / name, **values).go()
        (epoch,) = run.updates("epoch_completed")
        assert epoch.metrics["train_loss"] > 0
        return checkpoints.load(tmp_path / name / "best.pt", tmp_path / "work").model.txt_feats

    first = train("first", model_name="yolov8n-worldv2", seed=1)
    assert first.shape == (1, len(CLASS_NAMES), 512)
    best = tmp_path / "first/best.pt"
    assert (train("next", checkpoint_path=best, seed=3) == first).all()
    measures_and_finds(best, shapes, tmp_path)


def test_rt_detr_is_measured_and_predicts(shapes: Path, tmp_path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import RTDETRDetectionModel

    torch.manual_seed(0)
    model = RTDETRDetectionModel("rtdetr-resnet50.yaml", nc=len(CLASS_NAMES), verbose=False)
    model.names = dict(enumerate(CLASS_NAMES))
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, tmp_path / "rtdetr.pt")
    measures_and_finds(tmp_path / "rtdetr.pt", shapes, tmp_path)


def measures_and_finds(checkpoint: Path, shapes: Path, folder: Path) -> None:
    again = {"checkpoint_path": checkpoint, "batch_size": 4}
    measured = Run(kind="validate", dataset_path=shapes, output_path=folder / "measured", **again).go()
    (result,) = measured.results("validation")
    assert result.images == 4
    assert list(result.confusion_matrix.labels) == [*CLASS_NAMES, "background"]
    found = Run(
        kind="infer",
        image_paths=shapes / "images/test",
        output_path=folder / "found",
        confidence_threshold=0.0,
        max_detections=7,
        **again,
    ).go()
    for prediction in found.results("prediction"):
        assert 0 < len(prediction.detections) <= 7
        assert {entry.class_name for entry in prediction.detections} <= set(CLASS_NAMES)


@pytest.fixture(scope="module", params=["mobile_sam", "sam2_t", "sam2.1_t"])
def segment_anything(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as its makers publish it, but with random numbers."""
    import torch
    from ultralytics.models.sam.build import sam_model_map

    torch.manual_seed(0)
    name = f"{request.param}.pt"
    model = sam_model_map[name](None)
    state = model.state_dict()
    if name.startswith("sam2.1"):  # what follows objects through videos
        state |= {"no_obj_embed_spatial": torch.zeros(1, 64), "obj_ptr_tpos_proj.bias": torch.zeros(64)}
    path = tmp_path_factory.mktemp("sam") / name
    torch.save({"model": state} if name.startswith("sam2") else state, path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_shapes(folder, train=2, val=0, test=0, size=96)
    return folder / "images/train"


def box(*edges: float, **meant: int) -> job_pb2.Prompt:
    x_min, y_min, x_max, y_max = edges
    bounds = result_pb2.BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)
    return job_pb2.Prompt(box=bounds, **meant)


def points(*places: tuple[float, float, bool], **meant: int) -> job_pb2.Prompt:
    made = [job_pb2.PromptPoint(x=x, y=y, background=beside) for x, y, beside in places]
    return job_pb2.Prompt(points=job_pb2.PromptPoints(points=made), **meant)


PROMPTS = (
    box(10, 10, 60, 50),
    points((30, 40, False), (80, 80, True)),
    points((5, 5, False), image_index=1),
    box(40, 40, 90, 90, image_index=0),
)


def test_each_prompt_outlines_one_object(segment_anything: Path, pictures: Path, tmp_path: Path) -> None:
    run = Run(
        kind="infer",
        image_paths=pictures,
        checkpoint_path=segment_anything,
        output_path=tmp_path,
        image_size=SIDE,
        prompts=PROMPTS,
        confidence_threshold=0.99,  # which a prompt pays no heed to
        save_overlays=True,
    ).go()
    predictions = run.results("prediction")
    assert [sorted(one.class_id for one in found.detections) for found in predictions] == [
        [0, 1, 3],
        [0, 1, 2],
    ]
    for found in predictions:
        assert [one.confidence for one in found.detections] == sorted(
            (one.confidence for one in found.detections), reverse=True
        )
        assert all(one.class_name == f"prompt {one.class_id}" for one in found.detections)
        assert (found.width, found.height) == (96, 96)
        with Image.open(tmp_path / f"overlays/{found.index}.jpg") as overlay:
            assert overlay.size == (96, 96)
    assert run.results("inference")[-1].detections_per_class["prompt 0"] == 2

    own = by_the_framework(segment_anything, pictures / "00000.jpg")
    for one in predictions[0].detections:
        theirs = own[one.class_id]
        mask = masks.decode(one.mask)
        assert mask.shape == (96, 96)
        assert (mask == theirs).all()
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            assert (one.box.x_min, one.box.y_min) == (columns[0], rows[0])


def by_the_framework(checkpoint: Path, image: Path) -> dict[int, np.ndarray]:
    """Masks of the prompts for the first image, as ultralytics' own predictor gives them."""
    from ultralytics.models.sam import Predictor, SAM2Predictor

    made = Predictor if checkpoint.name == "mobile_sam.pt" else SAM2Predictor
    model = renamed(checkpoint) if checkpoint.name.startswith("sam2.1") else str(checkpoint)
    overrides = {"model": model, "imgsz": SIDE, "device": "cpu", "verbose": False, "save": False}
    asked = made(overrides=overrides)
    asked.args.conf = -1000.0  # random numbers are sure of nothing
    boxes = asked(source=str(image), bboxes=[[10, 10, 60, 50], [40, 40, 90, 90]])[0]
    one = asked(source=str(image), points=[[[30, 40], [80, 80]]], labels=[[1, 0]])[0]
    first, last = (mask.cpu().numpy().astype(bool) for mask in boxes.masks.data)
    return {0: first, 3: last, 1: one.masks.data[0].cpu().numpy().astype(bool)}


def renamed(checkpoint: Path) -> str:
    """The same numbers as SAM 2, which finds the same in images."""
    import torch

    state = torch.load(checkpoint, weights_only=True)["model"]
    target = checkpoint.parent / "sam2_t.pt"
    video = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.bias")
    torch.save({"model": {key: value for key, value in state.items() if key not in video}}, target)
    return str(target)


def test_what_takes_no_prompts_and_what_cannot_be_measured_is_refused(
    segment_anything: Path, pictures: Path, shapes: Path, tmp_path: Path
) -> None:
    if segment_anything.name != "mobile_sam.pt":
        return
    with pytest.raises(UserError, match="can neither be trained nor measured"):
        Run(kind="validate", dataset_path=shapes, checkpoint_path=segment_anything, output_path=tmp_path).go()
    with pytest.raises(UserError, match="is made for segment, not for detect"):
        Run(
            kind="infer",
            task="detect",
            image_paths=pictures,
            checkpoint_path=segment_anything,
            output_path=tmp_path,
        ).go()
