"""What the ultralytics framework can do, told without importing it."""

from importlib import metadata
from typing import Any

from google.protobuf.json_format import ParseDict

from runners.ultralytics import weights
from runners.ultralytics.models import TASKS, models
from visionmesh.v1 import runner_pb2, vision_pb2

OURS = frozenset({"bn_momentum"})
"""Hyperparameters that ultralytics itself does not know."""

_FLOAT = runner_pb2.HYPERPARAMETER_TYPE_FLOAT
_INT = runner_pb2.HYPERPARAMETER_TYPE_INT
_BOOL = runner_pb2.HYPERPARAMETER_TYPE_BOOL
_STRING = runner_pb2.HYPERPARAMETER_TYPE_STRING
_TRAIN = ("train",)
_MEASURE = ("validate", "infer")

# name, kinds, smallest, largest, default, description
_NUMBERS: tuple[tuple[str, tuple[str, ...], float | None, float | None, float, str], ...] = (
    ("lr0", _TRAIN, 0, 1, 0.01, "Initial learning rate; learning_rate of the job takes its place."),
    ("lrf", _TRAIN, 0, 1, 0.01, "Final learning rate as a part of the initial one."),
    ("momentum", _TRAIN, 0, 1, 0.937, "Momentum of SGD, or beta1 of the Adam family."),
    ("weight_decay", _TRAIN, 0, 1, 0.0005, "Weight decay (L2)."),
    ("warmup_epochs", _TRAIN, 0, None, 3.0, "Epochs over which learning rate and momentum warm up."),
    ("warmup_momentum", _TRAIN, 0, 1, 0.8, "Momentum at the start of the warm-up."),
    ("warmup_bias_lr", _TRAIN, 0, 1, 0.1, "Learning rate of biases at the start of the warm-up."),
    ("box", _TRAIN, 0, None, 7.5, "Weight of the box loss."),
    ("cls", _TRAIN, 0, None, 0.5, "Weight of the classification loss."),
    ("cls_pw", _TRAIN, 0, 1, 0.0, "Power of inverse class frequency as class weight; 0 is off."),
    ("dfl", _TRAIN, 0, None, 1.5, "Weight of the distribution focal loss."),
    ("pose", _TRAIN, 0, None, 12.0, "Weight of the loss of keypoints; pose only."),
    ("kobj", _TRAIN, 0, None, 1.0, "Weight of the loss of their visibility; pose only."),
    ("angle", _TRAIN, 0, None, 1.0, "Weight of the loss of angles; obb only."),
    ("dropout", _TRAIN, 0, 0.99, 0.0, "Dropout before the classes; classify only."),
    ("erasing", _TRAIN, 0, 0.9, 0.4, "Probability of erasing a random rectangle; classify only."),
    ("hsv_h", _TRAIN, 0, 1, 0.015, "Hue augmentation."),
    ("hsv_s", _TRAIN, 0, 1, 0.7, "Saturation augmentation."),
    ("hsv_v", _TRAIN, 0, 1, 0.4, "Brightness augmentation."),
    ("degrees", _TRAIN, 0, 180, 0.0, "Random rotation in degrees, both ways."),
    ("translate", _TRAIN, 0, 1, 0.1, "Random shift as a part of the image."),
    ("scale", _TRAIN, 0, 1, 0.5, "Random scaling, both ways."),
    ("shear", _TRAIN, 0, 90, 0.0, "Random shear in degrees, both ways."),
    ("perspective", _TRAIN, 0, 0.001, 0.0, "Random perspective."),
    ("flipud", _TRAIN, 0, 1, 0.0, "Probability of a vertical flip."),
    ("fliplr", _TRAIN, 0, 1, 0.5, "Probability of a horizontal flip."),
    ("bgr", _TRAIN, 0, 1, 0.0, "Probability of swapping red and blue."),
    ("mosaic", _TRAIN, 0, 1, 1.0, "Probability of joining four images into one."),
    ("mixup", _TRAIN, 0, 1, 0.0, "Probability of blending two images."),
    ("cutmix", _TRAIN, 0, 1, 0.0, "Probability of pasting a part of another image."),
    ("copy_paste", _TRAIN, 0, 1, 0.0, "Part of the objects copied into other images; needs masks."),
    ("multi_scale", _TRAIN, 0, 1, 0.0, "Random input size, as a part of image_size, both ways."),
    ("fraction", _TRAIN, 0.001, 1, 1.0, "Part of the training split to use."),
    ("bn_momentum", _TRAIN, 0.001, 1, 0.03, "Momentum of BatchNorm statistics; small data needs 0.1."),
)
_WHOLE: tuple[tuple[str, tuple[str, ...], float | None, float | None, int | None, str], ...] = (
    ("nbs", _TRAIN, 1, 65536, 64, "Nominal batch size: gradients accumulate up to it."),
    ("close_mosaic", _TRAIN, 0, None, 10, "Last epochs without mosaic."),
    ("mask_ratio", _TRAIN, 1, 16, 4, "How much smaller masks are in the loss; segment only."),
    ("freeze", _TRAIN, 0, 1000, None, "First layers that are not trained."),
    ("workers", ("train", "validate"), 0, 64, 0, "Processes that load data; on a CPU always 0."),
)
_SWITCHES: tuple[tuple[str, tuple[str, ...], bool, str], ...] = (
    ("cos_lr", _TRAIN, False, "Cosine learning rate instead of linear."),
    ("single_cls", ("train", "validate"), False, "Treat all classes as one."),
    ("rect", ("train", "validate"), False, "Batches of images of like shape, with less padding."),
    ("deterministic", _TRAIN, True, "Same seed, same result; costs some speed on a GPU."),
    ("overlap_mask", _TRAIN, True, "Masks of an image share one layer in training; segment only."),
    ("cls_remap", _TRAIN, True, "Take over the rows of like-named classes from the checkpoint."),
    ("augment", _MEASURE, False, "Average over scaled and flipped copies of each image."),
    ("agnostic_nms", _MEASURE, False, "Boxes of different classes suppress each other as well."),
)
_CHOICES: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str, str], ...] = (
    (
        "auto_augment",
        _TRAIN,
        ("randaugment", "autoaugment", "augmix"),
        "randaugment",
        "Policy of augmentation; classify only.",
    ),
    ("copy_paste_mode", _TRAIN, ("flip", "mixup"), "flip", "Where copied objects come from."),
    ("quantize", _MEASURE, ("fp16", "fp32"), "fp32", "Precision on a GPU."),
    ("amp", _TRAIN, ("fp32", "bf16"), "bf16", "Precision of training on a GPU; fp32 on a CPU."),
)


def manifest() -> runner_pb2.FrameworkManifest:
    """Models, tasks and hyperparameters with ranges and defaults, and the installed version."""
    return runner_pb2.FrameworkManifest(
        framework="ultralytics",
        version=metadata.version("ultralytics"),
        kinds=["train", "validate", "infer", "embed"],
        max_gpus=1,
        models=_models(),
        hyperparameters=_hyperparameters(),
        tasks=[vision_pb2.Task.Value(f"TASK_{task.upper()}") for task in TASKS],
    )


def _models() -> list[runner_pb2.ModelInfo]:
    return [
        runner_pb2.ModelInfo(
            name=model.name,
            tasks=[vision_pb2.Task.Value(f"TASK_{model.task.upper()}")],
            description=model.title,
            parameters_millions=model.parameters_millions,
            kinds=["infer"] if model.is_promptable else [],
            promptable=model.is_promptable,
            pretrained=weights.are_published(model.name),
        )
        for model in models().values()
    ]


def _hyperparameters() -> list[runner_pb2.Hyperparameter]:
    items = [
        _item(name, kinds, _FLOAT, default, text, low, high)
        for name, kinds, low, high, default, text in _NUMBERS
    ]
    items += [
        _item(name, kinds, _INT, default, text, low, high) for name, kinds, low, high, default, text in _WHOLE
    ]
    items += [_item(name, kinds, _BOOL, default, text) for name, kinds, default, text in _SWITCHES]
    for name, kinds, choices, default_choice, text in _CHOICES:
        item = _item(name, kinds, _STRING, default_choice, text)
        item.choices.extend(choices)
        items.append(item)
    return items


def _item(
    name: str,
    kinds: tuple[str, ...],
    kind: "runner_pb2.HyperparameterType.ValueType",
    default: Any,
    description: str,
    low: float | None = None,
    high: float | None = None,
) -> runner_pb2.Hyperparameter:
    item = runner_pb2.Hyperparameter(name=name, type=kind, description=description, kinds=kinds)
    if low is not None:
        item.min = low
    if high is not None:
        item.max = high
    ParseDict(default, item.default)
    return item
