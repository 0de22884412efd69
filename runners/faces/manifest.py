"""What the faces framework can do, told without importing OpenCV."""

from importlib import metadata
from typing import Any

from google.protobuf.json_format import ParseDict

from visionmesh.v1 import runner_pb2

DEFAULT_DETECTOR = "haar-frontal"
"""Used where neither a detector nor weights of one are named."""

_BOTH = ("detect_faces", "embed_faces")
_EMBED = ("embed_faces",)
_DISTRIBUTIONS = ("opencv-python", "opencv-python-headless")

# name, kinds, description
_MODELS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (DEFAULT_DETECTOR, _BOTH, "OpenCV's Haar cascade for faces seen from the front; needs no weights"),
    ("haar-profile", _BOTH, "OpenCV's Haar cascade for faces seen from the side; needs no weights"),
    ("yunet", _BOTH, "YuNet with five landmarks; needs its ONNX file as checkpoint"),
    ("ultralytics", _BOTH, "A detector or pose model trained on faces by ultralytics here, as checkpoint"),
    ("sface", _EMBED, "SFace, 128 numbers; needs its ONNX file as embedding_checkpoint"),
    ("timm", _EMBED, "An image classifier trained by timm here, 512 numbers if a resnet18"),
)

_FLOAT = runner_pb2.HYPERPARAMETER_TYPE_FLOAT
_INT = runner_pb2.HYPERPARAMETER_TYPE_INT

# name, type, smallest, largest, default, description
_SETTINGS: tuple[tuple[str, "runner_pb2.HyperparameterType.ValueType", float, float, float, str], ...] = (
    ("scale_factor", _FLOAT, 1.01, 2, 1.1, "Haar: from one size of faces that are looked for to the next."),
    ("min_neighbors", _INT, 1, 100, 5, "Haar: findings close together that make one face."),
    ("min_size", _INT, 10, 8192, 30, "Smallest side of a face, in pixels of the image after max_side."),
    ("max_side", _INT, 64, 8192, 1280, "Longest side of an image; larger ones are looked at scaled down."),
    ("nms_threshold", _FLOAT, 0, 1, 0.3, "Overlap (IoU) above which the weaker of two faces is dropped."),
    ("margin", _FLOAT, 0, 1, 0.2, "Added around a cut-out face on each side, as a part of its box."),
)


def manifest() -> runner_pb2.FrameworkManifest:
    """Detectors, what makes vectors, settings with ranges and defaults, and OpenCV's version."""
    return runner_pb2.FrameworkManifest(
        framework="faces",
        version=_opencv_version(),
        max_gpus=1,
        kinds=_BOTH,
        models=[
            runner_pb2.ModelInfo(name=name, kinds=kinds, description=text) for name, kinds, text in _MODELS
        ],
        hyperparameters=[_item(*setting) for setting in _SETTINGS],
    )


def detectors() -> list[str]:
    """Names of the models that find faces."""
    return [name for name, kinds, _ in _MODELS if "detect_faces" in kinds]


def embedders() -> list[str]:
    """Names of the models that turn a face into a vector."""
    return [name for name, kinds, _ in _MODELS if "detect_faces" not in kinds]


def defaults() -> dict[str, Any]:
    """The settings' defaults by name."""
    return {name: default for name, _, _, _, default, _ in _SETTINGS}


def _opencv_version() -> str:
    """Raises ImportError if neither distribution is installed."""
    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise ImportError("OpenCV is not installed: pip install 'visionmesh[faces]'")


def _item(
    name: str,
    kind: "runner_pb2.HyperparameterType.ValueType",
    low: float,
    high: float,
    default: Any,
    description: str,
) -> runner_pb2.Hyperparameter:
    item = runner_pb2.Hyperparameter(
        name=name, type=kind, min=low, max=high, description=description, kinds=_BOTH
    )
    ParseDict(default, item.default)
    return item
