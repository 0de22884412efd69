"""SAM and SAM 2: checkpoints that hold nothing but numbers, and what prompts point at.

Whose numbers they are is seen from the shapes of the first layers. SAM 2.1 differs from SAM 2 only in how it
follows objects through videos: what is for that is left out.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.models.sam import build
from ultralytics.models.sam.predict import Predictor, SAM2Predictor

from runners.vision import masks
from visionmesh.v1 import job_pb2, result_pb2

IMAGE_SIZE = 1024
"""Side of the network input that they are made for."""

_BY_WIDTH = {768: build.build_sam_vit_b, 1024: build.build_sam_vit_l, 1280: build.build_sam_vit_h}
_BY_WIDTH_2 = {112: build.build_sam2_b, 144: build.build_sam2_l}
_LAST_BLOCK_OF_SMALL = "image_encoder.trunk.blocks.15.norm1.weight"  # tiny has twelve
_VIDEO_ONLY = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.")

State = Mapping[str, torch.Tensor]


def load(path: Path) -> nn.Module | None:
    """The model of a checkpoint that holds numbers only; None if it holds more, or is of something else."""
    if torch.serialization.get_unsafe_globals_in_checkpoint(str(path)):
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or (builder := _builder(state)) is None:
        return None
    model: nn.Module = builder(None)
    model.load_state_dict({key: value for key, value in state.items() if not key.startswith(_VIDEO_ONLY)})
    return model


def _builder(state: State) -> Any:
    """What builds the model whose numbers these are; None if they are of none of these."""
    if "image_encoder.patch_embed.seq.0.c.weight" in state:
        return build.build_mobile_sam
    first = state.get("image_encoder.patch_embed.proj.weight")
    if first is not None:
        return _BY_WIDTH.get(first.shape[0])
    first = state.get("image_encoder.trunk.patch_embed.proj.weight")
    if first is None:
        return None
    small = build.build_sam2_s if _LAST_BLOCK_OF_SMALL in state else build.build_sam2_t
    return _BY_WIDTH_2.get(first.shape[0], small)


class Outliner:
    """Outlines what prompts point at, or all that it finds by itself. Not for several threads at once."""

    def __init__(
        self, model: nn.Module, arguments: dict[str, Any], prompts: Sequence[job_pb2.Prompt]
    ) -> None:
        """`arguments` are ultralytics' own."""
        made = SAM2Predictor if hasattr(model, "memory_encoder") else Predictor
        self._predictor = made(overrides=arguments)
        self._predictor.setup_model(model=model, verbose=False)
        self._prompts = prompts

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """What is in each image (height x width x 3, blue first), without index and URI; by index.

        With prompts there is a detection for each that is meant for the image, however sure the model is of
        it. Its class is the number of its prompt.
        """
        look = self._prompted if self._prompts else self._unprompted
        return {index: look(index, image) for index, image in images.items()}

    def _prompted(self, index: int, image: np.ndarray) -> result_pb2.ImagePrediction:
        began = time.perf_counter()
        prediction = result_pb2.ImagePrediction(height=image.shape[0], width=image.shape[1])
        meant = [
            (number, prompt)
            for number, prompt in enumerate(self._prompts)
            if not prompt.HasField("image_index") or prompt.image_index == index
        ]
        if meant:
            self._predictor.set_image(image)
        for number, prompt in meant:
            found, boxes = self._predictor.inference_features(
                self._predictor.features, image.shape[:2], **_pointing(prompt)
            )
            _add(prediction, number, f"prompt {number}", found[0], boxes[0])
        _sort(prediction)
        prediction.timings.inference_ms = 1000 * (time.perf_counter() - began)
        return prediction

    def _unprompted(self, _: int, image: np.ndarray) -> result_pb2.ImagePrediction:
        (result,) = self._predictor(source=[image])
        prediction = result_pb2.ImagePrediction(height=image.shape[0], width=image.shape[1])
        for found, box in zip(result.masks.data if result.masks else (), result.boxes.data, strict=True):
            _add(prediction, 0, "object", found, box)
        _sort(prediction)
        prediction.timings.preprocess_ms = result.speed["preprocess"]
        prediction.timings.inference_ms = result.speed["inference"]
        prediction.timings.postprocess_ms = result.speed["postprocess"]
        return prediction


def _pointing(prompt: job_pb2.Prompt) -> dict[str, Any]:
    """A prompt in ultralytics' words."""
    if prompt.HasField("box"):
        box = prompt.box
        return {"bboxes": [[box.x_min, box.y_min, box.x_max, box.y_max]]}
    points = prompt.points.points
    return {
        "points": [[[point.x, point.y] for point in points]],
        "labels": [[0 if point.background else 1 for point in points]],
    }


def _add(
    prediction: result_pb2.ImagePrediction, number: int, name: str, found: torch.Tensor, box: torch.Tensor
) -> None:
    """Add a detection: a mask, and x and y of two corners and a score."""
    mask = found.cpu().numpy().astype(bool)
    x_min, y_min, x_max, y_max, score = (float(value) for value in box[:5])
    prediction.detections.add(
        class_id=number,
        class_name=name,
        confidence=min(1.0, max(0.0, score)),
        box=result_pb2.BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max),
        mask=masks.encode(mask),
        polygons=masks.outlines(mask),
    )


def _sort(prediction: result_pb2.ImagePrediction) -> None:
    prediction.detections.sort(key=lambda detection: -detection.confidence)
