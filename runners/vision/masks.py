"""Masks as COCO run-length encoding, and their outlines.

The encoding goes column by column: lengths of runs of zeros and ones in turn, zeros first. From the fourth on
each is told as the difference from the one two before it. Each number is cut into groups of five bits, lowest
first; the sixth bit says that more follow, and 48 is added to make a printable character.

Source: rleToString and rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
"""

import cv2
import numpy as np

from visionmesh.datasets import rle
from visionmesh.v1 import result_pb2

_CORNERS = 3  # of the smallest outline


def encode(mask: np.ndarray) -> result_pb2.Mask:
    """A mask (height x width, true where the object is) as run lengths."""
    height, width = mask.shape
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    runs = np.diff(edges).tolist() if flat.size else []
    if flat.size and flat[0]:
        runs.insert(0, 0)
    return result_pb2.Mask(height=height, width=width, counts=_to_text(runs))


def decode(mask: result_pb2.Mask) -> np.ndarray:
    """The mask (height x width, bool) of an encoding. Raises ValueError if its runs do not fill it."""
    runs = rle.unpacked(mask.counts.decode())
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    if flat.size != mask.height * mask.width:
        raise ValueError(f"the runs tell of {flat.size} pixels, the mask has {mask.height} x {mask.width}")
    return flat.reshape((mask.height, mask.width), order="F")


def outlines(mask: np.ndarray) -> list[result_pb2.Polygon]:
    """Outer edges of a mask (height x width), largest first, through the centres of its outermost pixels."""
    found, _ = cv2.findContours(np.asarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = sorted(found, key=cv2.contourArea, reverse=True)
    return [
        result_pb2.Polygon(coordinates=edge.ravel().astype(float).tolist())
        for edge in found
        if len(edge) >= _CORNERS
    ]


def _to_text(runs: list[int]) -> bytes:
    text = bytearray()
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            group = value & 0x1F
            value >>= 5
            more = value != (-1 if group & 0x10 else 0)  # the fifth bit is the sign
            text.append((group | 0x20 if more else group) + 48)
    return bytes(text)
