"""The example of docs/frameworks.md with all kinds of jobs, and for each rule one that breaks it alone.

Loaded by job processes as "broken_frameworks:NAME", with this folder and the example's on PYTHONPATH.
"""

import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import struct_pb2
from looking_colour import LookingColour
from nearest_colour import colour, nearest, read

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped, UserError
from visionmesh.datasets.class_folders import labelled_images
from visionmesh.v1 import process_pb2, result_pb2, runner_pb2, vision_pb2

Event = process_pb2.ProcessEvent


class Whole(LookingColour):
    """Keeps every rule, with every kind of job that the rules are about."""

    descr, length = "<f4", 1.0

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        told.kinds.extend(["validate", "embed"])
        told.hyperparameters.add(
            name="bins",
            type=runner_pb2.HYPERPARAMETER_TYPE_INT,
            min=1,
            max=8,
            default=struct_pb2.Value(number_value=2),
            description="Not used.",
        )
        return told

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if job.kind == "validate":
            self.validate(job, emitter, commands)
        elif job.kind == "embed":
            self.embed(job, emitter, commands)
        else:
            super().run(job, emitter, commands)

    def validate(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if job.dataset_path is None or not job.dataset_path.is_dir():
            raise UserError(f"DATASET_PATH is {job.dataset_path}, which is no folder.")
        emitter.stage(vision_pb2.STAGE_STARTING)
        model = read(job.checkpoint_path)
        emitter.stage(vision_pb2.STAGE_VALIDATING)
        counts = [[0.0] * len(model["names"]) for _ in model["names"]]
        for path, _, label in labelled_images(job.dataset_path, job.split):
            commands.poll()
            counts[nearest(model, colour(path))][int(label)] += 1
        images = int(sum(map(sum, counts)))
        right = sum(row[index] for index, row in enumerate(counts))
        result = result_pb2.ValidationResult(images=images, metrics={"accuracy_top1": right / images})
        result.confusion_matrix.labels.extend(model["names"])
        result.confusion_matrix.counts.extend(count for row in counts for count in row)
        emitter.validation_result(result)

    def embed(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        def embedded(event: Any) -> Iterator[Any]:
            if event.result.HasField("prediction"):
                del event.result.prediction.classifications[:]
                if not event.result.prediction.HasField("error"):
                    yield self.vector(job, event.result.prediction)
            if event.result.HasField("inference"):
                event.result.inference.embedding_dimension = 3
            yield event

        super().run(job, changed(emitter, embedded), commands)

    def vector(self, job: JobEnvironment, prediction: result_pb2.ImagePrediction) -> Event:
        lines = [json.loads(line) for line in job.image_paths.read_text().splitlines()]
        seen = colour(lines[prediction.index]["path"])
        length = math.dist(seen, [0.0] * 3) / self.length
        header = str({"descr": self.descr, "fortran_order": False, "shape": (3,)}).ljust(117) + "\n"
        numbers = struct.pack("<3d" if self.descr == "<f8" else "<3f", *(part / length for part in seen))
        name = f"{prediction.index}.bin"
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        (job.output_path / name).write_bytes(start + numbers)
        prediction.embedding.artifact = f"jobs/{job.job_id}/artifacts/{name}"
        kind = result_pb2.ARTIFACT_KIND_EMBEDDING
        return Event(file=process_pb2.OutputFile(path=name, artifact=name, kind=kind))


def changed(emitter: Emitter, change: Any) -> Emitter:
    """One that sends what `change` makes of each event."""

    def write(event: Any) -> None:
        for other in change(event):
            emitter._write(other)

    return Emitter(write)


class Tampering(Whole):
    """Says something else than it should."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        def change(event: Any) -> Iterator[Any]:
            copy = Event()
            copy.CopyFrom(event)
            yield from self.tamper(copy, job)

        super().run(job, changed(emitter, change), commands)

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        self.alter(event)
        yield event

    def alter(self, event: Any) -> None:
        """Change it where it is."""


class ImportsAtOnce(Whole):
    """F1: its manifest needs a heavy package."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        import grpc  # noqa: F401

        return super().manifest()


class CalledOtherwise(Whole):
    """F2: its manifest has another name."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        told.framework = "another"
        return told


class SameModelTwice(Whole):
    """F3: two of its models have one name."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        told.models.add(name="mean")
        return told


class DefaultOutside(Whole):
    """F4: a default is out of range."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        told.hyperparameters[0].default.number_value = 9
        return told


class ThreadAtPreload(Whole):
    """F5: preload leaves a thread."""

    def preload(self) -> None:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


class WantsSecret(Whole):
    """F6: it needs what no job process has."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if not os.environ.get("API_TOKEN"):
            raise RuntimeError("API_TOKEN is not set")
        super().run(job, emitter, commands)


class BoundToProcess(Whole):
    """F7: what it has preloaded is good in one process only."""

    owner = 0

    def preload(self) -> None:
        self.owner = os.getpid()

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if self.owner not in (0, os.getpid()):
            raise RuntimeError("the handle belongs to another process")
        super().run(job, emitter, commands)


class LeavesProcess(Whole):
    """F8: a process outlives the job, in a session of its own."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        super().run(job, emitter, commands)


class LeavesThread(Whole):
    """F8: a thread does not end."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if job.kind == "embed":  # each such job costs the time that threads have to end
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        super().run(job, emitter, commands)


class SaysForAgent(Tampering):
    """F9: it publishes artifacts itself."""

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        yield event
        if event.HasField("file"):
            name = f"jobs/{job.job_id}/artifacts/x"
            yield Event(result=result_pb2.ResultItem(artifact=result_pb2.Artifact(name=name)))


class AnyModel(Whole):
    """F10: inside a job it lists no models, so that any is taken."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        if "KIND" in os.environ:
            del told.models[:]
        return told


class AnyHyperparameter(Whole):
    """F11: inside a job its hyperparameters have no range."""

    def manifest(self) -> runner_pb2.FrameworkManifest:
        told = super().manifest()
        if "KIND" in os.environ:
            told.hyperparameters[0].ClearField("max")
        return told


class CrashesWithoutDataset(Whole):
    """F12: a dataset that is not there is taken as a fault of its own."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if job.dataset_path is not None:
            list(job.dataset_path.iterdir())
        super().run(job, emitter, commands)


class CrashesWithoutCheckpoint(Whole):
    """F13: so is a checkpoint."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        if job.checkpoint_path is not None:
            json.loads(job.checkpoint_path.read_text())
        super().run(job, emitter, commands)


class StagesBackwards(Whole):
    """F14: it ends with the first stage."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(job, emitter, commands)
        emitter.stage(vision_pb2.STAGE_LOADING_MODEL)


class WrongTotal(Tampering):
    """F15: it says that there is one epoch more."""

    def alter(self, event: Any) -> None:
        if event.progress.HasField("epoch_completed"):
            event.progress.epoch_completed.total_epochs += 1


class EpochTwice(Tampering):
    """F15: it tells each epoch twice."""

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        yield from [event, event] if event.progress.HasField("epoch_completed") else [event]


class OwnNames(Tampering):
    """F16: it has a name of its own for a metric that has one."""

    def alter(self, event: Any) -> None:
        for metrics in metrics_of(event):
            metrics["top1"] = metrics["accuracy_top1"]


class Infinite(Tampering):
    """F16: a metric is infinite."""

    def alter(self, event: Any) -> None:
        for metrics in metrics_of(event):
            metrics["train_loss"] = math.inf


def metrics_of(event: Any) -> list[Any]:
    training = event.result.training
    if event.result.HasField("training"):
        return [training.best_metrics, training.final_metrics]
    return [event.progress.epoch_completed.metrics] if event.progress.HasField("epoch_completed") else []


class NoMetadata(Tampering):
    """F17: its checkpoints do not say of which epoch they are."""

    def alter(self, event: Any) -> None:
        if event.HasField("file"):
            event.file.metadata.clear()


class WritesInPlace(Tampering):
    """F18: it goes on writing to a file that was announced."""

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        yield event
        if event.file.artifact == "last":
            path, until = job.output_path / event.file.path, time.monotonic() + 60
            while path.stat().st_nlink == 1 and time.monotonic() < until:
                time.sleep(0.01)  # until the kit has linked it
            time.sleep(0.5)  # and read it
            with path.open("a") as file:
                file.write(" ")


class NamesOutside(Tampering):
    """F18: it announces a file that is not its own."""

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        yield event
        if event.result.HasField("training"):
            yield Event(file=process_pb2.OutputFile(path="../../../hosts", artifact="hosts"))


class BetterThanItWas(Tampering):
    """F19: its result has metrics that no epoch had."""

    def alter(self, event: Any) -> None:
        if event.result.HasField("training"):
            event.result.training.best_metrics["accuracy_top1"] = 0.123


class Every12th(Commands):
    def __init__(self, commands: Commands) -> None:
        self.commands, self.asked = commands, 0

    def poll(self) -> None:
        self.asked += 1
        if self.asked % 12 == 0:
            self.commands.poll()


class LooksOncePerEpoch(Whole):
    """F20: it looks for a stop once in an epoch."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(job, emitter, Every12th(commands))


class Deaf(Commands):
    def __init__(self, commands: Commands) -> None:
        self.commands = commands

    def poll(self) -> None:
        with suppress(Stopped):
            self.commands.poll()


class GoesOn(Whole):
    """F21: it swallows the stop."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(job, emitter, Deaf(commands))


class KeepsAtTheEnd(Tampering):
    """F21: the last checkpoint is announced only at the end, so that a stop leaves none."""

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        if event.file.artifact != "last" or event.file.checkpoint.epoch == job.epochs:
            yield event


class BeginsAgain(Whole):
    """F22: it does not resume."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(replace(job, resume=False), emitter, commands)


class AnotherRate(Tampering):
    """F22: a resumed training learns at another rate."""

    def tamper(self, event: Any, job: JobEnvironment) -> Iterator[Any]:
        if event.progress.HasField("epoch_completed") and job.resume:
            event.progress.epoch_completed.learning_rate *= 2
        yield event


class Moody(Tampering):
    """F23: the same seed gives something else each time."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        self.mood = random.random()  # noqa: S311 - no secret
        super().run(job, emitter, commands)

    def alter(self, event: Any) -> None:
        for metrics in metrics_of(event):
            metrics["mood"] = self.mood


class CountsTwice(Tampering):
    """F24: it says that it measured more than there is."""

    def alter(self, event: Any) -> None:
        if event.result.HasField("validation"):
            event.result.validation.images *= 2


class FromTheStart(Whole):
    """F25: it answers images again that were answered before."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(replace(job, first_image_index=0), emitter, commands)


class HidesErrors(Tampering):
    """F26: of an image that cannot be read it says nothing bad."""

    def alter(self, event: Any) -> None:
        event.result.prediction.ClearField("error") if event.result.HasField("prediction") else None
        if event.result.HasField("inference"):
            event.result.inference.failed_images = 0


class EndsAtErrors(Tampering):
    """F26: an image that cannot be read ends the job."""

    def alter(self, event: Any) -> None:
        if event.result.prediction.HasField("error"):
            raise RuntimeError("no image")


class BoxOutside(Tampering):
    """F27: it finds something beyond the image."""

    def alter(self, event: Any) -> None:
        if event.result.HasField("prediction"):
            box = result_pb2.BoundingBox(x_min=1, y_min=1, x_max=5000, y_max=2)
            event.result.prediction.detections.add(class_name="circle", confidence=0.5, box=box)


class TooSure(Tampering):
    """F27: it is surer than can be."""

    def alter(self, event: Any) -> None:
        for found in event.result.prediction.classifications[:1]:
            found.confidence = 1.5


class OtherClasses(Tampering):
    """F27: it finds classes that it has not learnt."""

    def alter(self, event: Any) -> None:
        for found in event.result.prediction.classifications:
            found.class_name = "elephant"


class Miscounts(Tampering):
    """F28: it counts an image more."""

    def alter(self, event: Any) -> None:
        if event.result.HasField("inference"):
            event.result.inference.total_images += 1


class DoublePrecision(Whole):
    """F29: its vectors have 64-bit numbers."""

    descr = "<f8"


class AnyLength(Whole):
    """F29: its vectors are not 1 long."""

    length = 3.0


class WritesBesideImages(Whole):
    """F30: it leaves a cache in the dataset."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(job, emitter, commands)
        if job.dataset_path is not None:
            (job.dataset_path / "labels.cache").write_text(str(time.time_ns()))


class WritesAtHome(Whole):
    """F30: it leaves settings in the home folder."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        super().run(job, emitter, commands)
        (Path.home() / ".settings").write_text(str(time.time_ns()))


class CallsHome(Whole):
    """F31: it looks for updates, and goes on without them."""

    def run(self, job: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        with suppress(OSError):
            socket.create_connection(("updates.example.org", 443), timeout=1).close()
        super().run(job, emitter, commands)
