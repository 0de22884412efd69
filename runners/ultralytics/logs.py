"""Turns what ultralytics logs into log events."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ultralytics import utils
from ultralytics.utils import LOGGER

from runners.process.emitter import Emitter
from visionmesh.v1 import progress_pb2

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LEVELS = (
    (logging.ERROR, progress_pb2.LOG_LEVEL_ERROR),
    (logging.WARNING, progress_pb2.LOG_LEVEL_WARNING),
    (logging.INFO, progress_pb2.LOG_LEVEL_INFO),
)


class _ToEmitter(logging.Handler):
    def __init__(self, emitter: Emitter) -> None:
        super().__init__(logging.INFO)
        self._emitter = emitter

    def emit(self, record: logging.LogRecord) -> None:
        levels = (ours for theirs, ours in _LEVELS if record.levelno >= theirs)
        self._emitter.log(
            next(levels, progress_pb2.LOG_LEVEL_DEBUG), _TERMINAL_CODES.sub("", record.getMessage())
        )


@contextmanager
def to_emitter(emitter: Emitter) -> Iterator[None]:
    """While it lasts, ultralytics logs events instead of lines, and draws no progress bars."""
    handlers, verbose = LOGGER.handlers[:], utils.VERBOSE
    LOGGER.handlers[:] = [_ToEmitter(emitter)]
    utils.VERBOSE = False  # read by each progress bar as it is made
    try:
        yield
    finally:
        LOGGER.handlers[:] = handlers
        utils.VERBOSE = verbose
