"""Images as they come: listed in order, read with their EXIF rotation, refused where they are too large."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.rpc import code_pb2, status_pb2
from PIL import Image, ImageOps

from runners.process.errors import UserError, status
from visionmesh.datasets.images import SUFFIXES, BadImage, open_image


@dataclass(frozen=True)
class ImageFile:
    """One image to look at."""

    index: int
    """Position in the job's list, from 0."""

    path: Path
    """Where it lies."""

    uri: str
    """As the user knows it."""

    error: status_pb2.Status | None = None
    """Why it could not be had; then nothing lies at `path`."""


class UnreadableImage(Exception):
    """An image cannot be decoded, is too large to be, or could not be had at all."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} cannot be read: {why}")

    def status(self) -> status_pb2.Status:
        """The same for ImagePrediction.error."""
        return status(code_pb2.INVALID_ARGUMENT, "IMAGE_UNREADABLE", str(self))


class _AbsentImage(UnreadableImage):
    """An image that could not be had, as whoever was to bring it has said."""

    def __init__(self, name: str, why: status_pb2.Status) -> None:
        super().__init__(name, why.message)
        self._why = why

    def status(self) -> status_pb2.Status:
        return self._why


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
        found = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
        listed = [ImageFile(index, path, str(path)) for index, path in enumerate(found)]
    elif source.suffix == ".jsonl":
        listed = _read_list(source)
    else:
        listed = [ImageFile(0, source, str(source))]
    if not listed:
        raise UserError(f"There are no images in {str(source)!r}.", reason="IMAGES_NOT_FOUND")
    return listed


def read(image: ImageFile) -> np.ndarray:
    """The pixels as shown: height x width x 3, blue first, 8 bits.

    Raises UnreadableImage.
    """
    if image.error is not None:
        raise _AbsentImage(image.uri, image.error)
    pixels = np.asarray(load(image.path, Path(image.uri).name or image.uri))
    return np.ascontiguousarray(pixels[..., ::-1])


def load(path: Path, name: str = "") -> Image.Image:
    """The picture as shown, in RGB with 8 bits. Raises UnreadableImage, which calls it `name`."""
    name = name or path.name
    try:
        with open_image(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            upright.info.pop("transparency", None)  # what is behind it shows, as it does in training
            return _to_8_bits(upright).convert("RGB")
    except BadImage as bad:
        raise UnreadableImage(name, str(bad)) from bad
    except MemoryError:
        raise
    except Exception as error:  # decoders fail in many ways on broken files
        raise UnreadableImage(name, f"{type(error).__name__}: {error}; send it again, whole") from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"}:  # what is black in them and what is white, only their maker knows
        raise BadImage("its pixels have 32 bits; save it with 8 or 16")
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would clip instead


def _read_list(source: Path) -> list[ImageFile]:
    listed = []
    for index, line in enumerate(source.read_text().splitlines()):
        try:
            entry = json.loads(line)
            uri = str(entry.get("uri", entry["path"]))
            listed.append(ImageFile(index, Path(entry["path"]), uri, _absence(entry.get("error"))))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f'{source.name}:{index + 1} is not like {{"path": "a.jpg", "uri": "a.jpg"}}: {error}.',
                reason="IMAGES_NOT_FOUND",
            ) from error
    return listed


def _absence(told: dict[str, Any] | None) -> status_pb2.Status | None:
    """What an entry's {"code", "reason", "message"} says; None without one."""
    return None if told is None else status(int(told["code"]), str(told["reason"]), str(told["message"]))
