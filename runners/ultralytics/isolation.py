"""Makes ultralytics keep to itself: offline, no installs, no executed checkpoints, no user settings.

Most of it is read when ultralytics is imported, so `isolate` comes before that import; `silence`
comes after it.
"""

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from runners.pytorch import surroundings

_ENVIRONMENT = {
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "ULTRALYTICS_SAFE_LOAD": "1",
}
_INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg")
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")


def isolate() -> None:
    """Set the environment that is read at import, with private folders for settings and fonts."""
    surroundings.prepare()
    os.environ.update(_ENVIRONMENT)
    # Under pytest ultralytics would write below its own package folder.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    folder = Path(tempfile.mkdtemp(prefix="visionmesh-ultralytics-"))
    atexit.register(_remove, folder, os.getpid())
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
    _provide_fonts(folder / "Ultralytics")
    # ultralytics puts an opener of its own into Pillow, which would download a plug-in: ours comes first.
    import visionmesh.datasets.images  # noqa: F401


def silence() -> None:
    """Switch off what ultralytics would tell others. Call after its import."""
    from ultralytics import settings

    settings.update(dict.fromkeys(_INTEGRATIONS, False))


def _provide_fonts(folder: Path) -> None:
    """Put a font where ultralytics looks: it would download one, whatever YOLO_OFFLINE says."""
    folder.mkdir(parents=True)
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return
    font = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    for name in _FONTS:
        (folder / name).symlink_to(font)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child leaves its zygote's folder alone
        shutil.rmtree(folder, ignore_errors=True)
