"""Weights that ultralytics has published: for which models, and how they are fetched.

They lie as files of a release of its own; the release and its address are the installed version's.
"""

import inspect
from pathlib import Path

from runners.process.download import download

_UNPUBLISHED = frozenset({"rtdetr-resnet50", "rtdetr-resnet101", "sam_h", "yolov8n-world", "yolov8n-worldv2"})


def are_published(model: str) -> bool:
    """Whether there are any for a model of the manifest."""
    return model not in _UNPUBLISHED


def fetch(model: str, folder: Path, mirror: str) -> Path:
    """Fetch the file of `model` into `folder` and look it through. Raises UserError, DownloadFailed.

    A `mirror` has the files by their names.
    """
    from ultralytics.utils import ASSETS_URL
    from ultralytics.utils.downloads import attempt_download_asset

    from runners.ultralytics.safety import refuse_unsafe

    release = inspect.signature(attempt_download_asset).parameters["release"].default
    origin = mirror or f"{ASSETS_URL.rpartition('/')[0]}/{release}"
    path = folder / f"{model}.pt"
    download(f"{origin}/{path.name}", path)
    refuse_unsafe(path, with_layers="sam" not in model)
    return path
