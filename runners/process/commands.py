"""What the agent says to a running job process: start, and stop."""

import os
import select
import signal
from types import FrameType

from runners.process.errors import Stopped
from runners.process.framing import Decoder
from visionmesh.v1 import process_pb2

_READ_BYTES = 4096


class Commands:
    """The commands of one job, from a file descriptor, or from Ctrl-C when there is none."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._decoder = Decoder(process_pb2.ProcessCommand)
        self._started = False
        self._stop: str | None = None
        if fd is None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._interrupted)
        else:
            # The agent decides: a Ctrl-C in its terminal must not tear the job apart as well.
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait_for_start(self) -> bool:
        """Wait until the agent says so; at once when there is none.

        False if the agent is gone instead. Raises Stopped if the job was cancelled meanwhile.
        """
        if self._fd is None:
            return True
        while not self._started and self._stop is None:
            if not self._read():
                return False
        if self._stop is not None:
            raise Stopped(self._stop)
        return True

    def poll(self) -> None:
        """Look for a stop without waiting; costs one system call.

        Raises Stopped on a stop, again at every call, and when the agent is gone.
        """
        while self._stop is None and self._fd is not None and select.select([self._fd], [], [], 0)[0]:
            if not self._read():
                self._stop = "The runner's agent is gone."
        if self._stop is not None:
            raise Stopped(self._stop)

    def _read(self) -> bool:
        if self._fd is None:
            return False
        data = os.read(self._fd, _READ_BYTES)
        for command in self._decoder.feed(data):
            if command.HasField("start"):
                self._started = True
            elif command.HasField("stop"):
                self._stop = command.stop.reason or "Stopped on request."
        return bool(data)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._stop = f"Stopped by {signal.Signals(number).name}."
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice means it
