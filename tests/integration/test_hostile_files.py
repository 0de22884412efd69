"""Files that would execute code if they were opened as their makers hope: none ever does.

Each payload would touch a file, the canary, or ask a local server. Jobs run by the job process's own entry,
in this process, so that a canary that fires fails the test.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2
from hostile_checkpoints import (
    HOSTILE,
    OPENED_BY_ANYBODY,
    Call,
    Conv,
    as_a_bomb,
    as_archive,
    as_pickle,
    layer,
    model,
    saved,
    touch,
)

from runners.framework import Framework
from runners.process import entry
from runners.process.errors import UserError
from runners.process.framing import Decoder
from runners.timm.framework import Timm
from runners.ultralytics import safety
from runners.ultralytics.framework import Ultralytics
from visionmesh.shapes import write_class_folders, write_shapes
from visionmesh.v1 import process_pb2, progress_pb2, vision_pb2

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=4, val=4, test=2, size=64)
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    write_class_folders(folder, train=3, val=3, test=0, size=64)
    return folder


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def ended(framework: Framework, kind: str, output: Path, **variables: Any) -> progress_pb2.AttemptEnded:
    """Run a job as a job process does; what it said last."""
    return spoken(framework, kind, output, **variables)[0]


def spoken(
    framework: Framework, kind: str, output: Path, **variables: Any
) -> tuple[progress_pb2.AttemptEnded, list[process_pb2.ProcessEvent]]:
    """Run a job as a job process does; what it said last, and all that it said."""
    environ = {name.upper(): str(value) for name, value in variables.items()}
    shared = {"KIND": kind, "OUTPUT_PATH": str(output), "EPOCHS": "1", "DEVICE": "cpu", "IMAGE_SIZE": "64"}
    with tempfile.TemporaryFile() as events:
        entry.run_job(framework, {**shared, "EVENTS_FD": str(os.dup(events.fileno())), **environ})
        events.seek(0)
        decoder = Decoder(process_pb2.ProcessEvent)
        said = list(decoder.feed(events.read()))
    assert said[-1].HasField("ended")
    return said[-1].ended, said


def reason_of(end: progress_pb2.AttemptEnded) -> str:
    info = error_details_pb2.ErrorInfo()
    detail: any_pb2.Any = end.error.details[0]
    assert detail.Unpack(info)
    return info.reason


def is_refused(end: progress_pb2.AttemptEnded, name: str) -> None:
    assert end.cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR, end
    assert end.error.code == code_pb2.FAILED_PRECONDITION, end
    assert f"{name} is not a checkpoint that can be used here: " in end.error.message


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_no_kind_of_job_opens_a_hostile_yolo_checkpoint(
    shapes: Path, tmp_path: Path, canary: Path, make: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "best.pt"
    make(path, canary)
    images = shapes / "images/test"
    for number, (kind, more) in enumerate(
        [("train", {}), ("train", {"resume": "true"}), ("validate", {}), ("infer", {})]
    ):
        data = {"image_paths": images} if kind == "infer" else {"dataset_path": shapes}
        end = ended(Ultralytics(), kind, tmp_path / str(number), checkpoint_path=path, **data, **more)
        is_refused(end, "best.pt")
    assert not canary.exists()


def test_whoever_opens_them_without_care_is_harmed(tmp_path: Path) -> None:
    """The control: the canaries do fire."""
    opened = []
    for make in OPENED_BY_ANYBODY:
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / "best.pt", folder / "canary")
        opened.append(folder / "best.pt")
    program = (
        "import contextlib, sys, torch\n"
        "from runners.ultralytics import isolation\n"
        "isolation.isolate()\n"
        "for path in sys.argv[1:]:\n"
        "    with contextlib.suppress(Exception):\n"
        "        torch.load(path, weights_only=False)\n"
    )
    subprocess.run([sys.executable, "-c", program, *map(str, opened)], check=True, timeout=100)
    assert [path.name for path in opened if not path.with_name("canary").exists()] == []


@pytest.mark.parametrize("form", ["trained", "fused", "with its loss", "classifier's", "weights"])
def test_what_ultralytics_itself_writes_is_let_through(tmp_path: Path, form: str) -> None:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.augment import classify_transforms

    made: Any = model()
    if form == "fused":
        made = made.eval().fuse()
    elif form == "with its loss":
        made.args = get_cfg()
        made.criterion = made.init_criterion()
    elif form == "classifier's":
        made.transforms = classify_transforms(64)
    content = {"model": made, "train_args": vars(get_cfg()), "save_dir": tmp_path, "fitness": np.float64(1)}
    saved(made.state_dict() if form == "weights" else content, tmp_path / "best.pt")
    safety.refuse_unsafe(tmp_path / "best.pt", with_layers=form != "weights")


def test_what_torch_reads_in_full_may_hold_tensors_only(tmp_path: Path, canary: Path) -> None:
    """SAM: ultralytics gives its files to torch's full loader."""
    path = tmp_path / "sam_b.pt"
    for content in ({"a": touch(canary)}, {"a": layer()}, {"a": Call(getattr, Conv, "forward")}):
        saved({"image_encoder.x": torch.zeros(2), **content}, path)
        with pytest.raises(UserError, match=r"sam_b\.pt is not a checkpoint"):
            safety.refuse_unsafe(path, with_layers=False)
    assert not canary.exists()


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_no_kind_of_job_opens_a_hostile_timm_checkpoint(
    classes: Path, tmp_path: Path, canary: Path, make: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "best.pth"
    make(path, canary)
    images = classes / "val/circle"
    for number, (kind, more) in enumerate(
        [("train", {}), ("train", {"resume": "true"}), ("validate", {}), ("infer", {}), ("embed", {})]
    ):
        data = {"image_paths": images} if kind in ("infer", "embed") else {"dataset_path": classes}
        end = ended(Timm(), kind, tmp_path / str(number), checkpoint_path=path, **data, **more)
        is_refused(end, "best.pth")
    assert not canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "m.onnx",
        "m.engine",
        "m.torchscript",
        "m.yaml",
        "m.pb",
        "m",
        "m.safetensors",
        "sam_b.pt",
        "mobile_sam.pt",
    ],
)
@pytest.mark.parametrize("framework", [Ultralytics(), Timm()], ids=["ultralytics", "timm"])
def test_no_name_of_a_file_makes_another_reader_open_it(
    shapes: Path, tmp_path: Path, canary: Path, framework: Framework, name: str
) -> None:
    """ultralytics chooses by the name what reads a file, and reads SAM's files in full."""
    saved(
        {"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16), "x": touch(canary)},
        tmp_path / name,
    )
    images = shapes / "images/test"
    end = ended(framework, "infer", tmp_path / "out", checkpoint_path=tmp_path / name, image_paths=images)
    is_refused(end, name)
    assert not canary.exists()


@pytest.mark.parametrize("framework", [Ultralytics(), Timm()], ids=["ultralytics", "timm"])
def test_an_archive_that_grows_is_not_unpacked(
    shapes: Path, tmp_path: Path, canary: Path, framework: Framework
) -> None:
    as_a_bomb(tmp_path / "best.pt", canary)
    values = {"checkpoint_path": tmp_path / "best.pt", "image_paths": shapes / "images/test"}
    end = ended(framework, "infer", tmp_path / "out", **values)
    is_refused(end, "best.pt")
    assert "data.pkl is compressed, which torch does not do" in end.error.message


def test_weights_that_fit_no_sam_are_refused(shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "sam_b.pt"
    saved({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(2, 2)}, path)
    images = shapes / "images/test"
    end = ended(Ultralytics(), "infer", tmp_path / "out", checkpoint_path=path, image_paths=images)
    is_refused(end, "sam_b.pt")


@pytest.mark.parametrize(
    "content",
    [
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}" + pickle.dumps(print),
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,9]}}',
    ],
    ids=["endless header", "bytes behind it", "numbers that are not there"],
)
def test_safetensors_that_promise_too_much_are_refused(shapes: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    images = shapes / "images/test"
    is_refused(ended(Timm(), "infer", tmp_path / "o", checkpoint_path=path, image_paths=images), path.name)


MODELS = (
    "{evil}",
    "../evil.yaml",
    "yolo11n.yaml",
    "evil.pt",
    "http://127.0.0.1:1/x.yaml",
    "hf-hub:a/b",
    "local-dir:{here}",
)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("framework", [Ultralytics(), Timm()], ids=["ultralytics", "timm"])
def test_a_model_is_known_by_its_name_or_not_at_all(
    shapes: Path, classes: Path, tmp_path: Path, canary: Path, framework: Framework, name: str
) -> None:
    evil = tmp_path / "evil.yaml"
    evil.write_text(f"nc: 3\nactivation: open({str(canary)!r}, 'w')\nbackbone: []\nhead: []\n")
    as_archive(tmp_path / "evil.pt", canary)
    data = shapes if framework.name == "ultralytics" else classes
    end = ended(
        framework,
        "train",
        tmp_path / "out",
        dataset_path=data,
        model_name=name.format(evil=evil, here=tmp_path),
    )
    assert end.cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR
    assert reason_of(end) == "UNKNOWN_MODEL"
    assert not canary.exists()


def hostile_dataset(folder: Path, canary: Path) -> None:
    """What ultralytics would unpickle, execute or download, were it given the folder itself."""
    write_shapes(folder, train=8, val=4, test=0, size=64)
    for place in ("labels/train.cache", "labels/val.cache", "images/train.cache", "train.cache"):
        with (folder / place).open("wb") as file:
            np.save(file, np.array({"hash": touch(canary)}, dtype=object), allow_pickle=True)
    for image in (folder / "images").rglob("*.jpg"):  # read in the place of the image
        with image.with_suffix(".npy").open("wb") as file:
            np.save(file, np.array([touch(canary)], dtype=object), allow_pickle=True)
    script = f"open({str(canary)!r}, 'w')"
    (folder / "data.yaml").write_text(
        f"path: /nowhere\ntrain: images/absent\nval: images/absent\ndownload: |\n  {script}\n"
        "names:\n  0: circle\n  1: \"__import__('os')\"\n  2: ../../up\n"
    )


def test_nothing_that_lies_in_a_dataset_is_executed(tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "data"
    hostile_dataset(folder, canary)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    end = ended(
        Ultralytics(), "train", tmp_path / "a", dataset_path=folder, batch_size=4, model_name="yolov8n"
    )
    assert end.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED, end
    assert not canary.exists()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    np.load(folder / "labels/train.cache", allow_pickle=True)  # the control
    assert canary.exists()


@pytest.mark.parametrize(
    "line", ["names: !!python/object/apply:os.system ['touch {canary}']", "names: !!python/name:os.system ''"]
)
def test_a_data_yaml_makes_no_objects(tmp_path: Path, canary: Path, line: str) -> None:
    write_shapes(tmp_path / "data", train=2, val=2, test=0, size=64)
    (tmp_path / "data/data.yaml").write_text(line.format(canary=canary))
    end = ended(Ultralytics(), "train", tmp_path / "a", dataset_path=tmp_path / "data", model_name="yolov8n")
    assert reason_of(end) == "DATASET_INVALID", end
    assert not canary.exists()


def test_what_is_no_image_is_an_error_entry(shapes: Path, tmp_path: Path, canary: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(next((shapes / "images/test").iterdir()).read_bytes())
    as_pickle(folder / "1.jpg", canary)
    as_archive(folder / "2.png", canary)
    saved({"model": model()}, tmp_path / "best.pt")
    end, said = spoken(
        Ultralytics(), "infer", tmp_path / "out", checkpoint_path=tmp_path / "best.pt", image_paths=folder
    )
    assert end.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED, end
    predictions = [event.result.prediction for event in said if event.result.HasField("prediction")]
    assert [prediction.HasField("error") for prediction in predictions] == [False, True, True]
    assert not canary.exists()
