"""What jobs tell of images."""

import ast
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from runners.framework_kit.jobs import Jobs
from runners.framework_kit.play import Played
from runners.framework_kit.rules import EMBEDS, Broken, expect
from runners.framework_kit.trial import BROKEN_INDEX, FIRST_INDEX
from visionmesh.names import artifact_path
from visionmesh.v1 import result_pb2

_SLACK_PIXELS = 1.0
_LENGTH_SLACK = 1e-3


def in_order(jobs: Jobs) -> str:
    """F25."""
    for kind, played in _looked(jobs):
        told = [prediction.index for prediction in played.results("prediction")]
        due = list(range(FIRST_INDEX, len(jobs.images)))
        text = f"{kind}: images {FIRST_INDEX} to {len(jobs.images) - 1} were due in this order, each once"
        expect(told == due, "F25", f"{text}, and it tells {told}")
        for prediction in played.results("prediction"):
            uri = f"kit/{jobs.images[prediction.index].name}"
            wrong = f"{kind}: image {prediction.index} is called {prediction.image_uri!r}, not {uri!r}"
            expect(prediction.image_uri == uri, "F25", wrong)
    return f"{len(jobs.images) - FIRST_INDEX} images from {FIRST_INDEX} on"


def unreadable(jobs: Jobs) -> str:
    """F26."""
    for kind, played in _looked(jobs):
        failed = [p.index for p in played.results("prediction") if p.HasField("error")]
        text = f"{kind}: image {BROKEN_INDEX} cannot be read, and error entries are of {failed}"
        expect(failed == [BROKEN_INDEX], "F26", text)
        error = next(p.error for p in played.results("prediction") if p.HasField("error"))
        expect(error.code and error.message, "F26", f"{kind}: the error entry has no code or no words")
    return f"image {BROKEN_INDEX} is an error entry"


def inside(jobs: Jobs) -> str:
    """F27."""
    count, names = 0, _class_names(jobs)
    for kind, played in _looked(jobs):
        for prediction in played.results("prediction"):
            if _is_told(prediction):
                _check_size(kind, prediction, jobs.images[prediction.index])
                count += _check_found(kind, prediction, names)
    return f"{count} boxes, faces and classes"


def totals(jobs: Jobs) -> str:
    """F28."""
    for kind, played in _looked(jobs):
        found = played.results("inference")
        expect(found, "F28", f"{kind}: there is no result")
        told, last = played.results("prediction"), found[-1]
        failed = sum(prediction.HasField("error") for prediction in told)
        counted = (last.total_images, last.failed_images)
        text = f"{kind}: it counts {counted} images and failures, and told {(len(told), failed)}"
        expect(counted == (len(told), failed), "F28", text)
        progress = played.updates("images_progress")
        expect(progress, "F28", f"{kind}: it tells no progress")
        done = (progress[-1].images_done, progress[-1].images_total)
        whole = len(jobs.images)
        expect(done == (whole, whole), "F28", f"{kind}: its progress ends at {done} of {whole} images")
    return f"{len(jobs.images) - FIRST_INDEX} images, 1 failed"


def vectors(jobs: Jobs) -> str:
    """F29."""
    totals(jobs)
    told = []
    for kind, played in _looked(jobs):
        if kind in EMBEDS:
            dimension = played.results("inference")[-1].embedding_dimension
            count = 0
            for prediction in filter(_is_told, played.results("prediction")):
                where = f"{kind}: image {prediction.index}"
                single = [prediction.embedding] if kind == "embed" else []
                for embedding in [*single, *(face.embedding for face in prediction.faces)]:
                    _check_vector(where, played, embedding, dimension)
                    count += 1
            told.append(f"{kind}: {count} of float32, {dimension} long")
    return "; ".join(told)


def _check_vector(where: str, played: Played, embedding: result_pb2.Embedding, dimension: int) -> None:
    expect(dimension > 0, "F29", f"{where}: the result says that vectors are {dimension} long")
    expect(embedding.artifact, "F29", f"{where}: its vector has no artifact")
    vector = _read_vector(where, _file(played, embedding.artifact))
    expect(len(vector) == dimension, "F29", f"{where}: {len(vector)} numbers, announced {dimension}")
    length = math.sqrt(sum(number * number for number in vector))
    text = f"{where}: its vector is {length:g} long with NORMALIZE=true"
    expect(abs(length - 1) < _LENGTH_SLACK, "F29", text)
    inline = list(embedding.values)
    expect(inline in ([], list(vector)), "F29", f"{where}: its values are not those of the file")


def _looked(jobs: Jobs) -> Iterator[tuple[str, Played]]:
    return ((kind, jobs.looked(kind)) for kind in jobs.looks)


def _is_told(prediction: result_pb2.ImagePrediction) -> bool:
    """Whether something is to be looked at; of the image that cannot be read there is not."""
    return not prediction.HasField("error") and prediction.index != BROKEN_INDEX


def _class_names(jobs: Jobs) -> Sequence[str]:
    """Those that the training told; none if there was none."""
    if "train" not in jobs.manifest.kinds or jobs.trial.checkpoint is not None:
        return ()
    found = jobs.trained().results("training")
    return list(found[-1].class_names) if found else ()


def _check_size(kind: str, prediction: result_pb2.ImagePrediction, path: Path) -> None:
    with Image.open(path) as image:
        size = image.size
    told = (prediction.width, prediction.height)
    expect(told == size, "F27", f"{kind}: image {prediction.index} is {size} and told as {told}")


def _check_found(kind: str, prediction: result_pb2.ImagePrediction, names: Sequence[str]) -> int:
    """How much was found and is sound."""
    where = f"{kind}: image {prediction.index}"
    for found in (prediction.detections, prediction.classifications, prediction.faces):
        confidences = [item.confidence for item in found]
        good = all(0 <= confidence <= 1 for confidence in confidences)
        expect(good, "F27", f"{where} has confidences {confidences}")
        falling = confidences == sorted(confidences, reverse=True)
        expect(falling, "F27", f"{where} does not have the most confident first: {confidences}")
    named: list[Any] = [*prediction.detections, *prediction.classifications]
    for item in named:
        known = not names or (0 <= item.class_id < len(names) and names[item.class_id] == item.class_name)
        expect(known, "F27", f"{where} has class {item.class_id} {item.class_name!r}, of {list(names)}")
    boxes = [item.box for item in prediction.detections] + [item.box for item in prediction.faces]
    for box in boxes:
        _check_box(where, box, prediction)
    return len(prediction.detections) + len(prediction.classifications) + len(prediction.faces)


def _check_box(where: str, box: Any, image: result_pb2.ImagePrediction) -> None:
    slack = _SLACK_PIXELS
    sides = box.x_min <= box.x_max and box.y_min <= box.y_max
    within = box.x_min >= -slack and box.y_min >= -slack
    within &= box.x_max <= image.width + slack and box.y_max <= image.height + slack
    corners = (box.x_min, box.y_min, box.x_max, box.y_max)
    expect(sides and within, "F27", f"{where}, {image.width}x{image.height}, has a box {corners}")


def _file(played: Played, artifact: str) -> Path:
    wanted = artifact_path(artifact) if "/artifacts/" in artifact else artifact
    found = [kept.path for kept in played.files if kept.file.artifact == wanted and kept.sha256]
    expect(found, "F29", f"{artifact} was never announced as a file")
    return found[-1]


def _read_vector(where: str, path: Path) -> tuple[float, ...]:
    """The numbers of a NumPy file, version 1 to 3 of its format."""
    data = path.read_bytes()
    try:
        if data[:6] != b"\x93NUMPY":
            raise ValueError("it does not begin as one")
        wide = data[6] > 1
        size = struct.unpack_from("<I" if wide else "<H", data, 8)[0]
        begin = (12 if wide else 10) + size
        header = ast.literal_eval(data[begin - size : begin].decode())
        (length,) = header["shape"]
        if header["descr"] != "<f4":
            raise ValueError(f"its numbers are {header['descr']}, not float32")
        return struct.unpack_from(f"<{length}f", data, begin)
    except (ValueError, KeyError, IndexError, SyntaxError, struct.error) as error:
        raise Broken("F29", f"{where}: {path.name} is no NumPy file of one vector: {error}") from error
