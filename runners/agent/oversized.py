"""What takes the place of a message that is too large for the way to the scheduler.

A message keeps its number, so something has to stand there; it says what is missing and why.
"""

import grpc
from google.protobuf.message import Message

from visionmesh.errors import MeshError, Reason, status_of
from visionmesh.limits import MAX_ITEM_BYTES, MAX_UPDATE_BYTES
from visionmesh.v1 import progress_pb2, result_pb2

_TRANSPORTS_WORDS = "message larger than max"


def is_too_large(error: MeshError) -> bool:
    """Whether a stream was refused for the size of a message: by the scheduler, or by gRPC on either side."""
    if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return False
    return error.reason == Reason.MESSAGE_TOO_LARGE or _TRANSPORTS_WORDS in error.message


def fitting_result(item: result_pb2.ResultItem) -> result_pb2.ResultItem:
    """`item`, or what stands for it if the scheduler would not store it."""
    return item if item.ByteSize() <= MAX_ITEM_BYTES else smaller_result(item)


def smaller_result(item: result_pb2.ResultItem) -> result_pb2.ResultItem:
    """An error entry for a prediction; a summary with its numbers, without what grows with classes."""
    kept = result_pb2.ResultItem()
    match item.WhichOneof("item"):
        case "prediction":
            for field in ("index", "image_uri", "width", "height"):
                setattr(kept.prediction, field, getattr(item.prediction, field))
            kept.prediction.error.CopyFrom(status_of(_too_large("The prediction", item)))
        case "validation":
            kept.validation.CopyFrom(item.validation)
            kept.validation.ClearField("per_class")
            kept.validation.ClearField("confusion_matrix")
    return kept  # empty otherwise: the scheduler notes that a result was rejected


def fitting_update(update: progress_pb2.ProgressUpdate) -> progress_pb2.ProgressUpdate:
    """`update`, or what stands for it if the scheduler would not store it."""
    return update if update.ByteSize() <= MAX_UPDATE_BYTES else smaller_update(update)


def smaller_update(update: progress_pb2.ProgressUpdate) -> progress_pb2.ProgressUpdate:
    """A log line in the place of an update; the end of an attempt stays one, with a short error."""
    error = _too_large(f"An update ({update.WhichOneof('update')})", update)
    if update.HasField("attempt_ended"):
        kept = progress_pb2.ProgressUpdate()
        kept.CopyFrom(update)
        kept.attempt_ended.error.message = update.attempt_ended.error.message[:1000]
        del kept.attempt_ended.error.details[1:]
        return kept
    line = progress_pb2.LogLine(level=progress_pb2.LOG_LEVEL_ERROR, message=error.message)
    return progress_pb2.ProgressUpdate(event_time=update.event_time, log_line=line)


def _too_large(what: str, message: Message) -> MeshError:
    text = (
        f"{what} takes {message.ByteSize()} bytes, which is more than is taken on the way to the scheduler; "
        "it is left out. Have fewer objects, classes or metrics in one."
    )
    return MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, text)
