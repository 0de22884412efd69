"""Images as they come: listed in order, read with their EXIF rotation, refused where they are too large."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.rpc import code_pb2, status_pb2
from PIL import Image, ImageOps, UnidentifiedImageError

from runners.process.errors import UserError, status
from visionmesh.datasets.yolo import IMAGE_SUFFIXES

MAX_PIXELS = 64_000_000
"""Larger images are not decoded: a few kilobytes of PNG can unfold to gigabytes."""

# What is decoded, whatever the file is called; MPO, of some cameras, is opened as JPEG. Others of Pillow's
# formats are not for strangers' files.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")


@dataclass(frozen=True)
class ImageFile:
    """One image to look at."""

    index: int
    """Position in the job's list, from 0."""

    path: Path
    """Where it lies."""

    uri: str
    """As the user knows it."""


class UnreadableImage(Exception):
    """An image cannot be decoded, or is too large to be."""

    def __init__(self, image: ImageFile, why: str) -> None:
        super().__init__(f"{Path(image.uri).name or image.uri} cannot be read: {why}")

    def status(self) -> status_pb2.Status:
        """The same for ImagePrediction.error."""
        return status(code_pb2.INVALID_ARGUMENT, "IMAGE_UNREADABLE", str(self))


def list_images(source: Path | None) -> list[ImageFile]:
    """The images of a folder by name, one image, or those that a .jsonl file lists.

    Raises UserError if there are none.
    """
    if source is None or not source.exists():
        where = "not set" if source is None else f"{str(source)!r}, which does not exist"
        raise UserError(
            f"IMAGE_PATHS is {where}. Set it to an image, a folder of images, or a .jsonl list.",
            reason="IMAGES_NOT_FOUND",
        )
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        entries = [(path, str(path)) for path in found]
    elif source.suffix == ".jsonl":
        entries = _read_list(source)
    else:
        entries = [(source, str(source))]
    if not entries:
        raise UserError(f"There are no images in {str(source)!r}.", reason="IMAGES_NOT_FOUND")
    return [ImageFile(index, path, uri) for index, (path, uri) in enumerate(entries)]


def read(image: ImageFile) -> np.ndarray:
    """The pixels as shown: height x width x 3, blue first, 8 bits.

    Raises UnreadableImage.
    """
    Image.init()  # Pillow knows only the commonest formats by itself
    try:
        with Image.open(image.path, formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                limit = f"{MAX_PIXELS // 10**6} million"
                raise UnreadableImage(
                    image, f"{width} x {height} pixels are more than {limit}. Scale it down."
                )
            upright = ImageOps.exif_transpose(opened)
            pixels = np.asarray(_to_8_bits(upright).convert("RGB"))
    except UnreadableImage:
        raise
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(_FORMATS)
        raise UnreadableImage(image, f"it is no image of a known format ({known})") from error
    except Exception as error:  # decoders fail in many ways on broken files
        raise UnreadableImage(image, f"{type(error).__name__}: {error}") from error
    return np.ascontiguousarray(pixels[..., ::-1])


def _to_8_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would clip instead


def _read_list(source: Path) -> list[tuple[Path, str]]:
    entries = []
    for number, line in enumerate(source.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            entries.append((Path(entry["path"]), str(entry.get("uri", entry["path"]))))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{source.name}:{number} is not like {{"path": "a.jpg", "uri": "a.jpg"}}: {error}.',
                reason="IMAGES_NOT_FOUND",
            ) from error
    return entries
