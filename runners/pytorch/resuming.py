"""Where a training begins: anew, from weights, or where an earlier attempt stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import progress_pb2

NOTHING_TO_RESUME = (
    "Stopped before the first epoch was complete: there is no checkpoint to go on from. "
    "The same seed trains the same way from the start."
)

C = TypeVar("C")


def starting_point(
    environment: JobEnvironment,
    read: Callable[[Path], C],
    check_resumable: Callable[[C | None], None],
    emitter: Emitter,
) -> tuple[JobEnvironment, C | None]:
    """What to do, and from which checkpoint. `read` and `check_resumable` raise UserError.

    A checkpoint that an earlier attempt left and that cannot be used is nobody's fault: the training
    starts anew, and says so.
    """
    try:
        start = read(environment.checkpoint_path) if environment.checkpoint_path else None
        if environment.resume:
            check_resumable(start)
        return environment, start
    except UserError as error:
        if not environment.resume or environment.attempt == 1:  # somebody has named it by hand
            raise
        emitter.log(progress_pb2.LOG_LEVEL_WARNING, f"The training starts anew: {error}")
        anew = replace(environment, resume=False, checkpoint_path=environment.start_checkpoint_path)
        return starting_point(anew, read, check_resumable, emitter)
