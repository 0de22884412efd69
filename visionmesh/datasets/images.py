"""Which image files are read, told from their headers: nothing is decoded here."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.Image import open as pillow_open  # as it is now: ultralytics puts one of its own in its place

TRAINING_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Endings of files that datasets take for images."""

SUFFIXES = TRAINING_SUFFIXES | {".gif", ".mpo"}
"""Endings of files that inference takes for images."""

REFUSED_SUFFIXES = frozenset(
    {
        ".avif",
        ".dng",
        ".gif",
        ".heic",
        ".heif",
        ".ico",
        ".jp2",
        ".jxl",
        ".mpo",
        ".pgm",
        ".ppm",
        ".psd",
        ".svg",
        ".tga",
    }
)
"""Endings of images that nothing here trains on: better told than left out."""

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
"""What is decoded, whatever a file is called; of several pages or frames the first.

MPO, of some cameras, is opened as JPEG. Others of Pillow's formats are not for strangers' files.
"""

TRAINING_FORMATS = FORMATS[:-1]
"""What frameworks train on: OpenCV reads no GIF everywhere."""

MAX_PIXELS = 100_000_000
"""Larger images are not decoded: a few kilobytes of PNG can unfold to gigabytes."""

_ORIENTATION = 0x0112  # EXIF's tag
_ON_ITS_SIDE = range(5, 9)

MIN_SIDE = 10
"""Pixels of the shorter side from which an image is trained on."""

# Pillow warns before it refuses; both come above our own cap, which is looked at first.
Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS


class BadImage(Exception):
    """An image is not read; the message says why, and what would be."""


def open_image(path: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open a file and read its header; decoding comes later. To be closed.

    Raises BadImage if it is of no such format or too large, and OSError.
    """
    Image.init()  # Pillow knows only the commonest formats by itself
    try:
        opened = pillow_open(path, formats=formats)
    except UnidentifiedImageError:
        raise BadImage(_unknown(path, formats)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(_too_large("it has")) from None
    width, height = opened.size
    if width * height > MAX_PIXELS:
        opened.close()
        raise BadImage(_too_large(f"its {width} x {height} pixels are"))
    return opened


def training_problem(path: Path) -> str | None:
    """Why no framework would train on an image, as its header tells; None if nothing is wrong."""
    try:
        with open_image(path, TRAINING_FORMATS) as opened:
            width, height = opened.size
    except BadImage as bad:
        return str(bad)
    except Exception as error:  # headers can be broken in many ways
        return f"its header cannot be read ({type(error).__name__}: {error}); save it again"
    if min(width, height) < MIN_SIDE:
        return f"its {width} x {height} pixels are too few; each side needs {MIN_SIDE} at least"
    return None


def training_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as it is shown, by its header; None if that cannot be read."""
    try:
        with open_image(path, TRAINING_FORMATS) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
    except Exception:  # why is told by training_problem
        return None
    return (height, width) if turned else (width, height)


def images_below(folder: Path, suffixes: frozenset[str] = TRAINING_SUFFIXES) -> list[Path]:
    """Files below `folder` that end as images do, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())


def refused_images(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each image below `folder` on which nothing here would train, and why; reads headers only."""
    for image in images_below(folder):
        if (problem := training_problem(image)) is not None:
            yield image, problem
    for other in images_below(folder, REFUSED_SUFFIXES):
        wanted = ", ".join(sorted(TRAINING_SUFFIXES))
        yield other, f"{other.suffix} is not trained on; save it as one of {wanted}"


def _unknown(path: Path, formats: tuple[str, ...]) -> str:
    if not path.stat().st_size:
        return "the file is empty; send it again"
    return f"it is no image of a known format; save it as one of {', '.join(formats)}"


def _too_large(what: str) -> str:
    return f"{what} more than {MAX_PIXELS // 10**6} million pixels; scale it down"
