"""Cuts faces out: as they are, or turned and scaled so that eyes and mouth lie where they always lie."""

import cv2
import numpy as np

from visionmesh.v1 import result_pb2

_SIDE = 112
# Where a face recogniser expects the landmarks in a picture of 112 x 112 pixels: the template of ArcFace
# (Deng et al., CVPR 2019; insightface/utils/face_align.py), which OpenCV's FaceRecognizerSF uses as well.
# In the order of detector.LANDMARKS.
_TEMPLATE = np.array(
    [
        (73.5318, 51.5014),
        (38.2946, 51.6963),
        (56.0252, 71.7366),
        (70.7299, 92.2041),
        (41.5493, 92.3655),
    ]
)


def cut(image: np.ndarray, face: result_pb2.Face, margin: float) -> np.ndarray:
    """What the image (height x width x 3) has in the face's box and `margin` of it on each side."""
    height, width = image.shape[:2]
    box = face.box
    across, down = margin * (box.x_max - box.x_min), margin * (box.y_max - box.y_min)
    left, right = max(0, int(box.x_min - across)), min(width, int(np.ceil(box.x_max + across)))
    top, bottom = max(0, int(box.y_min - down)), min(height, int(np.ceil(box.y_max + down)))
    return image[top:bottom, left:right]


def align(image: np.ndarray, face: result_pb2.Face, side: int, margin: float) -> np.ndarray:
    """The face as a picture of side x side x 3.

    By its landmarks, if it has them; else the square around its box with `margin` on each side. What
    lies outside the image is black.
    """
    if len(face.landmarks) == len(_TEMPLATE):
        points = np.array([(point.x, point.y) for point in face.landmarks])
        matrix = similarity(points, _TEMPLATE * side / _SIDE)
    else:
        matrix = _square(face.box, side, margin)
    picture: np.ndarray = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return picture


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 2 x 3 matrix of the rotation, scaling and shift that takes points (n x 2) closest to others.

    Least squares without reflection, after Umeyama (IEEE PAMI 13, 1991).
    """
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    centred, wanted = source - middle, target - aim
    u, strengths, v = np.linalg.svd(wanted.T @ centred)
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ np.diag(signs) @ v
    scale = (strengths * signs).sum() / max(float((centred**2).sum()), 1e-12)
    return np.hstack([scale * rotation, (aim - scale * rotation @ middle)[:, None]])


def _square(box: result_pb2.BoundingBox, side: int, margin: float) -> np.ndarray:
    longest = max(box.x_max - box.x_min, box.y_max - box.y_min)
    scale = side / (longest * (1 + 2 * margin))
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    return np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y]])
