"""Runs jobs of a framework in this process, with a recorder in the place of the agent."""

from typing import Any, Self

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped
from visionmesh.v1 import process_pb2


class Quiet(Commands):
    """Never stops, or at the n-th look."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.left = stop_at

    def poll(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                raise Stopped("Enough.")


class JobRun:
    """One job, and what it said."""

    def __init__(self, framework: Framework, stop_at: int | None = None, **settings: Any) -> None:
        self.framework = framework
        self.events: list[process_pb2.ProcessEvent] = []
        self.environment = JobEnvironment(**settings)
        self.environment.output_path.mkdir(parents=True, exist_ok=True)
        self.commands = Quiet(stop_at)

    def go(self) -> Self:
        self.framework.run(self.environment, Emitter(self.take), self.commands)
        return self

    def take(self, event: Any) -> None:
        self.events.append(event)

    def updates(self, name: str) -> list[Any]:
        return [
            getattr(event.progress, name)
            for event in self.events
            if event.WhichOneof("event") == "progress" and event.progress.HasField(name)
        ]

    def results(self, name: str) -> list[Any]:
        return [
            getattr(event.result, name)
            for event in self.events
            if event.WhichOneof("event") == "result" and event.result.HasField(name)
        ]

    @property
    def files(self) -> list[process_pb2.OutputFile]:
        return [event.file for event in self.events if event.WhichOneof("event") == "file"]
