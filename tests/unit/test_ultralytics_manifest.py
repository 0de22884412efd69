"""The manifest says what ultralytics really is, without importing it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from runners.process.hyperparameters import check_hyperparameters
from runners.ultralytics.manifest import OURS, manifest
from runners.ultralytics.models import TASKS, default, models
from visionmesh.v1 import vision_pb2


@pytest.fixture(scope="module")
def package() -> Path:
    found = importlib.util.find_spec("ultralytics")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def test_every_hyperparameter_is_one_of_ultralytics_with_its_default(package: Path) -> None:
    real: dict[str, Any] = yaml.safe_load((package / "cfg/default.yaml").read_text())
    # What we set otherwise on purpose: data loading in the process, and precision by device.
    on_purpose = {"workers", "quantize", "amp"}
    for item in manifest().hyperparameters:
        if item.name in OURS:
            assert item.name not in real
            continue
        assert item.name in real
        if item.name not in on_purpose:
            assert MessageToDict(item.default) == real[item.name], item.name


def test_names_are_unique_and_defaults_are_in_range() -> None:
    told = manifest()
    names = [item.name for item in told.hyperparameters]
    assert len(names) == len(set(names))
    for item in told.hyperparameters:
        assert item.description
        default = MessageToDict(item.default)
        if default is not None:
            check_hyperparameters(told, item.kinds[0], {item.name: default})


def described(package: Path, name: str) -> dict[str, Any] | None:
    """What the YAML of a model says, for the size that its name tells."""
    found = re.fullmatch(r"(yolo(?:v8|11|26))([nsmlx])(.*)", name)
    family, size, ending = found.groups() if found else (name, "", "")
    paths = sorted(package.glob(f"cfg/models/*/{family}{ending}.yaml"))
    if not paths:
        return None
    text = paths[0].read_text()
    told = re.search(rf"^  {size}: .*?([\d,]+) parameters", text, re.MULTILINE) if size else None
    millions = int(told[1].replace(",", "")) / 1e6 if told else 0.0
    return {"scales": set(yaml.safe_load(text)["scales"]), "size": size, "millions": millions}


def test_every_model_has_its_yaml_and_as_many_parameters_as_that_says(package: Path) -> None:
    for name, model in models().items():
        if model.is_promptable:
            continue
        said = described(package, name)
        assert said is not None, name
        assert not said["size"] or said["size"] in said["scales"]
        assert model.parameters_millions == round(said["millions"], 1), name
    assert len(models()) == 3 * 5 * 5 + 2 * 5 + 4 + 12


def test_every_promptable_model_is_one_that_ultralytics_builds(package: Path) -> None:
    source = (package / "models/sam/build.py").read_text()
    for name in (model.name for model in models().values() if model.is_promptable):
        assert f'"{name}.pt": build_' in source


def test_names_end_as_their_task_wants(package: Path) -> None:
    told = {info.name: info for info in manifest().models}
    assert list(told) == list(models())
    assert [vision_pb2.Task.Name(task) for task in told["yolo26x-obb"].tasks] == ["TASK_OBB"]
    assert [vision_pb2.Task.Name(task) for task in told["yolov8n-cls"].tasks] == ["TASK_CLASSIFY"]
    assert (list(told["sam2.1_b"].kinds), told["sam2.1_b"].promptable) == (["infer"], True)
    assert (list(told["rtdetr-l"].kinds), told["rtdetr-l"].promptable) == ([], False)
    assert [default(task).name for task in TASKS] == [f"yolo11n{ending}" for ending in TASKS.values()]


def test_reading_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from runners.framework import load; load('ultralytics').manifest();"
        "heavy = {'torch', 'ultralytics', 'cv2', 'numpy', 'matplotlib', 'grpc'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
