"""The manifest says what ultralytics really is, without importing it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from runners.process.hyperparameters import check_hyperparameters
from runners.ultralytics.manifest import DEFAULT_MODEL, OURS, manifest, model_names


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


def test_every_model_has_its_yaml(package: Path) -> None:
    folders = {"yolov8": "v8", "yolo11": "11", "yolo26": "26"}
    assert len(model_names()) == 15
    assert DEFAULT_MODEL in model_names()
    for name in model_names():
        family, scale = name[:-1], name[-1]
        described = yaml.safe_load((package / "cfg/models" / folders[family] / f"{family}.yaml").read_text())
        assert scale in described["scales"]


def test_reading_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from runners.framework import load; load('ultralytics').manifest();"
        "heavy = {'torch', 'ultralytics', 'cv2', 'numpy', 'matplotlib', 'grpc'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
