"""Python, and the packages that frameworks need: installed, of one kind, and importable."""

import importlib.util
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from visionmesh.doctor._finding import Finding, ok, problem, warning
from visionmesh.doctor._gpu import Driver, gpu
from visionmesh.doctor._process import ProbeFailed, lines_of

_LEAST_PYTHON = (3, 11)
_OUR_OWN = ("visionmesh", "grpcio", "protobuf", "sqlalchemy", "alembic", "pillow")
_HEAVY = ("cv2", "torch", "torchvision", "ultralytics")
_OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_LIBRARIES = "apt-get install libgl1 libglib2.0-0"
_IMPORT_SECONDS = 120.0
_FRAMEWORK = "python -m pip install 'visionmesh[ultralytics]'"


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Python is new enough."""
    text = ".".join(map(str, version))
    if version < _LEAST_PYTHON:
        return problem("Python", f"{text} is too old", "install Python 3.11 or newer, and VisionMesh with it")
    return ok("Python", f"{text} ({platform.system()} {platform.machine()})")


def packages(names: Iterable[str] = _OUR_OWN) -> Finding:
    """What VisionMesh itself stands on is installed."""
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if not version]
    if missing:
        advice = "install VisionMesh again: python -m pip install --force-reinstall visionmesh"
        return problem("packages", f"{', '.join(missing)} not installed", advice)
    return ok("packages", ", ".join(f"{name} {version}" for name, version in versions.items()))


def opencv(names: Iterable[str] = _OPENCVS) -> Finding:
    """There is one OpenCV: several write over each other's files."""
    found = {name: version for name in names if (version := _version(name))}
    if len(found) > 1:
        extra = " ".join(found)
        advice = f"keep one: python -m pip uninstall -y {extra} && {_FRAMEWORK}"
        return problem("OpenCV", f"{' and '.join(found)} are installed over each other", advice)
    if not found:
        return warning("OpenCV", "not installed", f"only ultralytics needs it: {_FRAMEWORK}")
    return ok("OpenCV", " ".join(*found.items()))


async def frameworks(driver: Driver, modules: Iterable[str] = _HEAVY) -> list[Finding]:
    """The heavy packages can be imported, and torch fits the GPUs. Takes seconds."""
    with tempfile.TemporaryDirectory(prefix="visionmesh-doctor-") as folder:
        alone = {
            "YOLO_OFFLINE": "1",
            "YOLO_AUTOINSTALL": "0",
            "YOLO_CONFIG_DIR": folder,
            "MPLCONFIGDIR": folder,
        }
        try:
            (told,) = await lines_of("visionmesh.doctor._imports", list(modules), _IMPORT_SECONDS, alone)
        except ProbeFailed as failed:
            advice = "run `python -c 'import cv2, torch, ultralytics'` to see it; install them again"
            return [problem("frameworks", f"importing them fails: {failed}", advice)]
    return list(judged(told, driver))


def judged(told: Mapping[str, Mapping[str, Any]], driver: Driver) -> Iterator[Finding]:
    """What the imports' outcomes mean."""
    for name, outcome in told.items():
        if "error" not in outcome:
            yield ok(name, outcome["version"])
        elif outcome["missing"]:
            yield warning(name, "not installed; this machine can run no ultralytics jobs", _FRAMEWORK)
        else:
            yield problem(name, f"cannot be imported: {outcome['error']}", _mend(outcome["error"]))
    if "cuda" in told.get("torch", {}):
        yield gpu(driver, told["torch"]["cuda"], works=told["torch"]["cuda_works"])


def _mend(error: str) -> str:
    if any(library in error for library in ("libGL", "libgthread", "libglib", "libxcb")):
        return f"OpenCV wants system libraries: {_LIBRARIES}"
    if "torchvision::" in error:
        advice = "torch and torchvision do not match; take both from the same place"
        return f"{advice}: python -m pip install --force-reinstall torch torchvision"
    return f"install it again: {_FRAMEWORK}"


def fonts() -> Finding:
    """The font that plots of a job are written with; without it ultralytics would download one."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return warning("fonts", "no matplotlib, so no font for plots", "python -m pip install matplotlib")
    font = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    if not font.is_file():
        advice = "python -m pip install --force-reinstall matplotlib"
        return warning("fonts", f"{font} is missing: plots would want to download one", advice)
    return ok("fonts", "DejaVu Sans, for plots (it has no Chinese, Japanese or Korean letters)")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
