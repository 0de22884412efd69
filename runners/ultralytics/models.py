"""The models that ultralytics builds by name, told without importing it."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from runners.process.errors import UserError

TASKS = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}
"""Tasks, and how the names of the models for each end."""

DEFAULT_FAMILY = "yolo11n"
"""Built for the task where neither a model nor a checkpoint is named."""

_SIZES = {"n": "nano", "s": "small", "m": "medium", "l": "large", "x": "extra large"}
_ENDINGS = {"-seg": "outlines", "-cls": "classes of images", "-pose": "keypoints", "-obb": "turned boxes"}
_UNTOLD = (0.0,) * len(_SIZES)

# Millions of parameters of n, s, m, l, x with 80 classes, as each YAML states them; 0 where it does not.
_YOLO: dict[str, tuple[str, dict[str, tuple[float, ...]]]] = {
    "yolov8": (
        "YOLOv8",
        {
            "": (3.2, 11.2, 25.9, 43.7, 68.2),
            "-seg": _UNTOLD,
            "-cls": _UNTOLD,
            "-pose": _UNTOLD,
            "-obb": (3.2, 11.5, 26.5, 44.5, 69.6),
        },
    ),
    "yolo11": (
        "YOLO11",
        {
            "": (2.6, 9.5, 20.1, 25.4, 57.0),
            "-seg": (2.9, 10.1, 22.4, 27.7, 62.1),
            "-cls": (1.6, 5.5, 10.5, 12.9, 28.5),
            "-pose": (2.9, 9.9, 21.0, 26.2, 58.9),
            "-obb": (2.7, 9.7, 21.0, 26.2, 58.9),
        },
    ),
    "yolo26": (
        "YOLO26",
        {
            "": (2.6, 10.0, 21.9, 26.3, 59.0),
            "-seg": (3.1, 11.5, 27.1, 31.5, 70.7),
            "-cls": (2.8, 6.7, 11.6, 14.1, 29.6),
            "-pose": (3.7, 11.9, 24.3, 28.7, 62.9),
            "-obb": (2.7, 10.6, 23.6, 28.0, 62.8),
        },
    ),
}
_WORLD = {"-world": (4.2, 13.4, 29.1, 47.6, 73.7), "-worldv2": (3.7, 12.8, 28.4, 46.8, 72.9)}
_RTDETR = {"l": "large", "x": "extra large", "resnet50": "on ResNet-50", "resnet101": "on ResNet-101"}
_SAM = {
    "sam_b": "SAM base",
    "sam_l": "SAM large",
    "sam_h": "SAM huge",
    "mobile_sam": "MobileSAM",
    **{
        f"{family}_{size}": f"{family.upper().replace('SAM2', 'SAM 2')} {title}"
        for family in ("sam2", "sam2.1")
        for size, title in (("t", "tiny"), ("s", "small"), ("b", "base"), ("l", "large"))
    },
}


@dataclass(frozen=True)
class Model:
    """One model."""

    name: str
    """As ultralytics calls it, without an ending."""

    family: str
    """yolo, world, rtdetr or sam: which of ultralytics' classes work with it."""

    task: str
    """detect, segment, classify, pose or obb."""

    title: str
    """For people."""

    parameters_millions: float = 0.0
    """0 if not known."""

    @property
    def is_promptable(self) -> bool:
        """Whether it outlines what prompts point at. Such a model is not trained here."""
        return self.family == "sam"


@cache
def models() -> dict[str, Model]:
    """Every model by its name."""
    return {model.name: model for model in (*_yolo(), *_world(), *_rtdetr(), *_sam())}


def model(name: str) -> Model:
    """The model of that name. Raises UserError that names the nearest."""
    found = models().get(name)
    if found is None:
        nearest = difflib.get_close_matches(name, models(), n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise UserError(
            f"ultralytics has no model {name!r} here.{hint} It has: {', '.join(models())}.",
            reason="UNKNOWN_MODEL",
        )
    return found


def default(task: str | None) -> Model:
    """What is built for a task where nothing is named."""
    return model(DEFAULT_FAMILY + TASKS[task or "detect"])


def _yolo() -> Iterator[Model]:
    tasks = {ending: task for task, ending in TASKS.items()}
    for family, (title, endings) in _YOLO.items():
        for ending, parameters in endings.items():
            of = f" for {_ENDINGS[ending]}" if ending else ""
            for size, millions in zip(_SIZES, parameters, strict=True):
                name = family + size + ending
                yield Model(name, "yolo", tasks[ending], f"{title} {_SIZES[size]}{of}", millions)


def _world() -> Iterator[Model]:
    for ending, parameters in _WORLD.items():
        for size, millions in zip(_SIZES, parameters, strict=True):
            title = f"YOLO-World{ending.removeprefix('-world')} {_SIZES[size]}, with a fixed vocabulary"
            yield Model(f"yolov8{size}{ending}", "world", "detect", title, millions)


def _rtdetr() -> Iterator[Model]:
    for ending, title in _RTDETR.items():
        yield Model(f"rtdetr-{ending}", "rtdetr", "detect", f"RT-DETR {title}")


def _sam() -> Iterator[Model]:
    for name, title in _SAM.items():
        yield Model(name, "sam", "segment", f"{title}, outlines what prompts point at")
