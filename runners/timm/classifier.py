"""Classifiers: built by name, written as checkpoints, read back, asked."""

import difflib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from google.rpc import code_pb2
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from runners.process.errors import UserError
from runners.pytorch.archives import refuse_compressed
from runners.timm import manifest
from runners.timm.data import Preprocessing

State = Mapping[str, torch.Tensor]
_ABOUT = "visionmesh"
_SIZES = range(1, 8193)
_BROKEN = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
)
"""What reading a file raises that is no checkpoint, or only half of one."""


@dataclass(frozen=True)
class Classifier:
    """A network, and what one has to know to use it."""

    name: str
    """Of timm."""

    class_names: tuple[str, ...]
    """By class id."""

    preprocessing: Preprocessing
    network: nn.Module

    def about(self) -> str:
        """All but the network, as JSON."""
        told = {
            "framework": "timm",
            "model": self.name,
            "class_names": self.class_names,
            "preprocessing": self.preprocessing.as_dict(),
        }
        return json.dumps(told)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    path: Path
    weights: State
    about: Mapping[str, Any]
    """What `Classifier.about` told; empty for weights from elsewhere."""
    training: Mapping[str, Any]
    """Optimizer, epochs and so on; empty if it cannot be resumed."""


def build(
    name: str | None, class_names: Sequence[str], size: int | None, settings: Mapping[str, Any]
) -> Classifier:
    """A new one with random weights. Raises UserError for an unknown name or what the model does not take."""
    name = name or manifest.DEFAULT_MODEL
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, manifest.model_names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"timm has no model {name!r} here.{hint}", reason="UNKNOWN_MODEL")
    chosen = {key: settings[key] for key in ("drop_rate", "drop_path_rate") if settings.get(key)}
    if size is not None:
        chosen |= _own_size(name, size)
    try:
        network = timm.create_model(name, pretrained=False, num_classes=len(class_names), **chosen)
    except (TypeError, ValueError, AssertionError) as error:
        told = ", ".join(f"{key}={value}" for key, value in chosen.items()) or f"{len(class_names)} classes"
        raise UserError(
            f"{name} cannot be built with {told}: {error}. Leave that out, or choose another model.",
            reason="BAD_HYPERPARAMETER",
        ) from error
    return Classifier(name, tuple(class_names), Preprocessing.of_model(network, size), network)


def restore(checkpoint: Checkpoint, size: int | None = None) -> Classifier:
    """The classifier that a checkpoint of this framework holds, in evaluation mode.

    Its input is of `size` pixels, or as it was trained. Raises UserError.
    """
    about = checkpoint.about
    if not about:
        text = "it does not say which model and classes it is for"
        raise _unusable(checkpoint.path, text, "Use the best of a training of this mesh")
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    preprocessing = replace(preprocessing, size=size or preprocessing.size)
    chosen = _own_size(about["model"], preprocessing.size)
    network = timm.create_model(
        about["model"], pretrained=False, num_classes=len(about["class_names"]), **chosen
    )
    try:
        network.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        how = "Use it with the version of timm that wrote it"
        raise _unusable(checkpoint.path, str(error), how) from error
    return Classifier(about["model"], tuple(about["class_names"]), preprocessing, network.eval())


def _own_size(name: str, size: int) -> dict[str, Any]:
    """What a model that is made for one size must be told to take another."""
    own = timm.get_pretrained_cfg(name)
    other = own is not None and own.fixed_input_size and own.input_size[-1] != size
    return {"img_size": size} if other else {}


def start_from(network: nn.Module, weights: State) -> list[str]:
    """Take over the weights that fit by name and shape; the names of those that did not come from there.

    Raises UserError if nothing fits.
    """
    own = network.state_dict()
    shapes = {name: value.shape for name, value in own.items()}
    fitting = {name: value for name, value in weights.items() if shapes.get(name) == value.shape}
    if not any(value.ndim > 1 for value in fitting.values()):
        text = "The checkpoint is of another model: none of its weights fits. Name the model that it is of."
        raise UserError(text)
    network.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def write_best(path: Path, classifier: Classifier, weights: State) -> None:
    """Write weights and what one has to know as safetensors; `path` is replaced at once."""
    scratch = path.with_name(f".{path.name}.new")
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    save_file(plain, scratch, metadata={_ABOUT: classifier.about()})
    scratch.replace(path)


def write_last(path: Path, classifier: Classifier, weights: State, training: Mapping[str, Any]) -> None:
    """Write everything that a training needs to go on; `path` is replaced at once."""
    scratch = path.with_name(f".{path.name}.new")
    torch.save({_ABOUT: classifier.about(), "weights": dict(weights), "training": dict(training)}, scratch)
    scratch.replace(path)


def read(path: Path | None) -> Checkpoint:
    """Read a checkpoint without executing anything of it.

    Takes safetensors, and what torch's restricted unpickler reads. Raises UserError.
    """
    if path is None or not path.is_file():
        where = "not set" if path is None else f"{str(path)!r}, which is no file"
        raise UserError(
            f"CHECKPOINT_PATH is {where}. Set it to a file such as the best.safetensors of a training.",
            reason="CHECKPOINT_NOT_FOUND",
        )
    try:
        found = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
        _check_about(found.about)
    except _BROKEN as error:
        how = "Use safetensors, or what a training of this mesh has written"
        raise _unusable(path, str(error), how) from error
    return found


def _check_about(about: Any) -> None:
    """Raise what says that a file tells nonsense of itself: it may come from anybody."""
    if about == {}:
        return
    names = about["class_names"]
    if not timm.is_model(about["model"]):
        raise ValueError(f"it is said to be of {about['model']!r}, which timm does not know here")
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("it does not name its classes")
    if Preprocessing.from_dict(about["preprocessing"]).size not in _SIZES:
        raise ValueError("the size of its input is out of range")


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{"


def _read_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    return Checkpoint(path, weights, about, {})


def _read_pickle(path: Path) -> Checkpoint:
    refuse_compressed(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError("it holds no weights by name")
    if _ABOUT in content:
        about = json.loads(content[_ABOUT])
        return Checkpoint(path, content["weights"], about, content["training"])
    weights = content.get("state_dict") or content.get("model") or content
    if not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError("it holds no weights by name")
    return Checkpoint(path, weights, {}, {})


def _unusable(path: Path, why: str, how: str) -> UserError:
    first = why.strip().splitlines()[0].rstrip(".") if why.strip() else "no reason given"
    return UserError(
        f"{path.name} is not a checkpoint that can be used here: {first}. {how}.",
        code=code_pb2.FAILED_PRECONDITION,
    )
