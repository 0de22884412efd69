"""A framework with an observer around it, inside the job process.

It is loaded as any other, as "runners.framework_kit.watched:Watched"; the environment says which framework
is inside, and where to write down what was seen.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter, to_fd
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped
from runners.process.spawned import framework_of
from visionmesh.v1 import process_pb2, progress_pb2, runner_pb2

NAME = "runners.framework_kit.watched:Watched"
SUBJECT_VARIABLE = "FRAMEWORK_KIT_SUBJECT"
FACTS_VARIABLE = "FRAMEWORK_KIT_FACTS"
STOP_VARIABLE = "FRAMEWORK_KIT_STOP"
"""Set: a training is held when it first looks for a stop after its first epoch, until the stop comes."""

HELD = "held for the stop"
"""The log line that says so."""

_HOLD_SECONDS = 120.0
_THREADS_END_SECONDS = 3.0
_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104 - to compare


class Watched(Framework):
    """Does what the framework inside does."""

    def __init__(self) -> None:
        self._subject = framework_of(os.environ[SUBJECT_VARIABLE])
        self.name, self.packages = self._subject.name, self._subject.packages

    def manifest(self) -> runner_pb2.FrameworkManifest:
        """As the framework says."""
        return self._subject.manifest()

    def preload(self) -> None:
        """As the framework does."""
        self._subject.preload()

    def device(self, environment: JobEnvironment) -> str:
        """As the framework says."""
        return self._subject.device(environment)

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Let the framework run, and write down what was seen."""
        seen = Seen(emitter, commands)
        threads = set(threading.enumerate())
        try:
            with _network_closed() as asked:
                self._subject.run(environment, seen.emitter(environment.events_fd), seen)
        finally:
            facts = {
                "polls": seen.polls,
                "epochs_after_stop": seen.epochs_after_stop,
                "threads": _left(threads),
                "network": asked,
            }
            Path(os.environ[FACTS_VARIABLE]).write_text(json.dumps(facts))


class Seen(Commands):
    """The commands of a job; it counts how often they are asked for, and what follows a stop."""

    def __init__(self, emitter: Emitter, commands: Commands) -> None:
        self._emitter, self._commands = emitter, commands
        self._holds = STOP_VARIABLE in os.environ
        self._epochs = self._polls_since = 0
        self._is_stopped = False
        self.polls = 0
        self.epochs_after_stop = 0

    def emitter(self, events_fd: int | None) -> Emitter:
        """One that notes each epoch."""
        write = to_fd(1 if events_fd is None else events_fd)

        def noted(event: Message) -> None:
            write(event)
            if isinstance(event, process_pb2.ProcessEvent) and event.progress.HasField("epoch_completed"):
                self._epochs, self._polls_since = self._epochs + 1, 0
                self.epochs_after_stop += self._is_stopped

        return Emitter(noted)

    def poll(self) -> None:
        """As Commands does."""
        self.polls += 1
        self._polls_since += 1
        try:
            if self._holds and not self._is_stopped and self._epochs and self._polls_since == 1:
                self._hold()
            self._commands.poll()
        except Stopped:
            self._is_stopped = True
            raise

    def _hold(self) -> None:
        """Wait for the stop, so that it comes in the midst of an epoch however fast that is."""
        self._emitter.log(progress_pb2.LOG_LEVEL_DEBUG, HELD)
        until = time.monotonic() + _HOLD_SECONDS
        while time.monotonic() < until:
            self._commands.poll()
            time.sleep(0.005)


@contextmanager
def _network_closed() -> Iterator[list[str]]:
    """Refuse every address but this machine's; those that were asked for."""
    asked: list[str] = []
    is_open = False

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if is_open or event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            return
        address = arguments[1] if event == "socket.connect" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if isinstance(address, tuple) or event != "socket.connect":  # else a socket of this machine
            _refuse(str(host), asked)

    sys.addaudithook(look)
    try:
        yield asked
    finally:
        is_open = True


def _refuse(host: str, asked: list[str]) -> None:
    if host in ("", "None") or host.startswith(_LOCAL):
        return
    asked.append(host)
    raise OSError(f"the kit lets nobody reach {host}")


def _left(before: set[threading.Thread]) -> list[str]:
    """Names of threads that are new and do not end."""
    until = time.monotonic() + _THREADS_END_SECONDS
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread.name for thread in new if thread.is_alive()]
