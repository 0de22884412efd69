"""What the timm framework can do, told without importing it."""

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict

from runners.timm import weights
from visionmesh.v1 import runner_pb2, vision_pb2

DEFAULT_MODEL = "resnet18"
"""Built where neither a model nor a checkpoint is named."""

METRICS = ("accuracy_top1", "accuracy_top5", "precision", "recall", "train_loss", "val_loss")
"""What can say which epoch is best; the first one does by default."""

_FLOAT = runner_pb2.HYPERPARAMETER_TYPE_FLOAT
_INT = runner_pb2.HYPERPARAMETER_TYPE_INT
_BOOL = runner_pb2.HYPERPARAMETER_TYPE_BOOL
_STRING = runner_pb2.HYPERPARAMETER_TYPE_STRING

SCHEDULES = ("cosine", "step", "poly", "tanh", "plateau", "constant")
"""How the learning rate goes; all but the last are timm's."""

# name, smallest, largest, default, description
_NUMBERS: tuple[tuple[str, float | None, float | None, float, str], ...] = (
    ("weight_decay", 0, 1, 0.05, "Weight decay of the optimizer."),
    ("momentum", 0, 1, 0.9, "Momentum of optimizers that have one."),
    ("layer_decay", 0.01, 1, 1.0, "Factor of the learning rate from each layer to the one before it."),
    ("clip_grad", 0, None, 0.0, "Largest norm of the gradients; 0 does not clip."),
    ("warmup_lr", 0, 1, 1e-5, "Learning rate at the start of the warm-up."),
    ("min_lr", 0, 1, 0.0, "Learning rate at the end."),
    ("decay_rate", 0, 1, 0.1, "Factor of each step, for step and plateau."),
    ("smoothing", 0, 0.99, 0.1, "Label smoothing."),
    ("mixup", 0, 10, 0.0, "Alpha of mixup; 0 is off."),
    ("cutmix", 0, 10, 0.0, "Alpha of cutmix; 0 is off."),
    ("scale_min", 0.01, 1, 0.35, "Smallest part of an image that a random crop keeps."),
    ("hflip", 0, 1, 0.5, "Probability of a horizontal flip."),
    ("vflip", 0, 1, 0.0, "Probability of a vertical flip."),
    ("color_jitter", 0, 1, 0.4, "Strength of random brightness, contrast and saturation."),
    ("reprob", 0, 1, 0.0, "Probability of erasing a random rectangle."),
    ("drop_rate", 0, 0.99, 0.0, "Dropout before the classifier."),
    ("drop_path_rate", 0, 0.99, 0.0, "Stochastic depth, for models that have it."),
    ("ema_decay", 0, 1, 0.0, "Decay of the moving average of the weights; 0 keeps none."),
)
_WHOLE: tuple[tuple[str, int, int | None, int, str], ...] = (
    ("warmup_epochs", 0, None, 0, "Epochs over which the learning rate warms up."),
    ("decay_epochs", 1, None, 30, "Epochs from one step to the next, for step."),
    ("patience_epochs", 1, None, 10, "Epochs without improvement before a step, for plateau."),
    ("workers", 0, 64, 0, "Processes that load data; on a CPU always 0."),
    ("processes", 1, 64, 1, "Processes that share each batch, on a CPU; on GPUs there is one for each."),
)


def manifest() -> runner_pb2.FrameworkManifest:
    """Models, tasks and hyperparameters with ranges and defaults, and the installed version."""
    return runner_pb2.FrameworkManifest(
        framework="timm",
        version=metadata.version("timm"),
        kinds=["train", "validate", "infer", "embed"],
        models=[
            runner_pb2.ModelInfo(
                name=name,
                tasks=[vision_pb2.TASK_CLASSIFY],
                description="Classifier of timm",
                pretrained=name in weights.published(),
            )
            for name in model_names()
        ],
        hyperparameters=_hyperparameters(),
        tasks=[vision_pb2.TASK_CLASSIFY],
        max_gpus=64,
    )


@cache
def model_names() -> Sequence[str]:
    """Names of the models that can be built, as `timm.list_models()` of the installed version has them."""
    return Path(__file__).with_name("models.txt").read_text().split()


def _hyperparameters() -> list[runner_pb2.Hyperparameter]:
    items = [_item(name, _FLOAT, default, text, low, high) for name, low, high, default, text in _NUMBERS] + [
        _item(name, _INT, default, text, low, high) for name, low, high, default, text in _WHOLE
    ]
    schedule = _item("sched", _STRING, SCHEDULES[0], "How the learning rate goes over the epochs.")
    schedule.choices.extend(SCHEDULES)
    augment = _item("auto_augment", _STRING, "", 'A policy of timm, such as "rand-m9-mstd0.5"; empty is off.')
    amp = _item("amp", _BOOL, True, "16-bit floats (bf16) on a GPU.")
    return [*items, schedule, augment, amp]


def _item(
    name: str,
    kind: "runner_pb2.HyperparameterType.ValueType",
    default: Any,
    description: str,
    low: float | None = None,
    high: float | None = None,
) -> runner_pb2.Hyperparameter:
    item = runner_pb2.Hyperparameter(name=name, type=kind, description=description, kinds=["train"])
    if low is not None:
        item.min = low
    if high is not None:
        item.max = high
    ParseDict(default, item.default)
    return item


def defaults() -> dict[str, Any]:
    """The hyperparameters' defaults by name."""
    made: dict[str, Any] = {name: default for name, _, _, default, _ in _NUMBERS}
    made |= {name: default for name, _, _, default, _ in _WHOLE}
    return {**made, "sched": SCHEDULES[0], "auto_augment": "", "amp": True}
