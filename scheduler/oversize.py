"""Messages above a limit: one refusal for all of them, and how lists stay below it."""

from collections.abc import Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from visionmesh.errors import MeshError, Reason, Violation
from visionmesh.limits import PAGE_BYTES

M = TypeVar("M", bound=Message)


def too_large(field: str, what: str, size_bytes: int, limit_bytes: int, instead: str) -> MeshError:
    """RESOURCE_EXHAUSTED: `what`, in `field` (empty for a whole request), is larger than is taken."""
    text = f"{what} takes {size_bytes} bytes, and at most {limit_bytes} are taken. {instead}"
    return MeshError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.MESSAGE_TOO_LARGE,
        text,
        {"size_bytes": str(size_bytes), "limit_bytes": str(limit_bytes)},
        violations=(Violation(field, text),) if field else (),
    )


def fitting(messages: Sequence[M], count: int, max_bytes: int = PAGE_BYTES) -> list[M]:
    """The first of `messages` that fit on a page: at most `count`, at least one if there is any."""
    return list(messages[: count_fitting([message.ByteSize() for message in messages[:count]], max_bytes)])


def count_fitting(sizes: Sequence[int], max_bytes: int = PAGE_BYTES) -> int:
    """How many messages of these sizes fit on a page; one always does."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > max_bytes:
            return count
    return len(sizes)
