"""ONNX files that users bring: read, and refused where OpenCV cannot use them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from google.rpc import code_pb2

from runners.process.errors import UserError

FAILURES = (cv2.error, SystemError, ValueError)
"""What OpenCV raises over a file that is not what it is taken for."""


def read(path: Path | None, variable: str, example: str) -> np.ndarray:
    """The bytes of the file that an environment variable names. Raises UserError if there is none."""
    if path is None or not path.is_file():
        where = "not set" if path is None else f"{str(path)!r}, which is no file"
        raise UserError(
            f"{variable} is {where}. Set it to {example}.",
            reason="CHECKPOINT_NOT_FOUND",
        )
    return np.fromfile(path, np.uint8)


@contextmanager
def refused(path: Path | None, kind: str) -> Iterator[None]:
    """Turns what OpenCV raises inside into a UserError: the file is not of that kind."""
    try:
        yield
    except FAILURES as error:
        name = path.name if path else "The file"
        why = " ".join(str(getattr(error, "err", error)).split())[:200].rstrip(".")
        raise UserError(
            f"{name} is not a model that can be used here: OpenCV cannot run it as {kind} ({why}). "
            f"Give the ONNX file of {kind} as its makers publish it.",
            code=code_pb2.FAILED_PRECONDITION,
        ) from error
