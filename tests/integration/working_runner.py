"""A runner that does every job that it is given, in a moment, and leaves behind what such a job leaves."""

import asyncio
import hashlib
from contextlib import suppress

from runner_double import Numbered, RunnerDouble, ended, epoch, line, started

from visionmesh.errors import MeshError
from visionmesh.v1 import result_pb2, runner_pb2

WEIGHTS = b"weights"
EPOCHS = 3


class WorkingRunner:
    """Works on a scripted runner until it is cancelled."""

    def __init__(self, runner: RunnerDouble) -> None:
        self._runner = runner
        self.pause = asyncio.Event()
        """While this is not set, jobs that have begun do not end."""
        self.pause.set()

    async def work(self) -> None:
        """Do one job after another."""
        while True:
            assignment = await self._runner.assignments.get()
            await self._runner.answer(assignment, True)
            with suppress(MeshError):  # superseded: the next, please
                await self._do(assignment)
            self._runner.holds.discard((assignment.job.name, assignment.attempt))

    async def _do(self, assignment: runner_pb2.Assignment) -> None:
        name, attempt = assignment.job.name, assignment.attempt
        progress = await self._runner.progress(name, attempt)
        results = await self._runner.results(name, attempt)
        await progress.send(started(), line(f"{assignment.job.WhichOneof('spec')} begins"))
        await self.pause.wait()
        await getattr(self, f"_{assignment.job.WhichOneof('spec')}")(assignment, progress, results)
        await progress.send(ended(results_number=results.number))

    async def _train(self, assignment: runner_pb2.Assignment, progress: Numbered, results: Numbered) -> None:
        await progress.send(*(epoch(number, EPOCHS, mAP50=number / 10) for number in range(1, EPOCHS + 1)))
        best = await self._artifact(assignment, "best.pt", "best")
        last = {"mAP50": EPOCHS / 10}
        summary = result_pb2.TrainingResult(
            best_epoch=EPOCHS, epochs_completed=EPOCHS, best_metrics=last, final_metrics=last
        )
        summary.checkpoints.append(best.artifact.name)
        await results.send(best, result_pb2.ResultItem(training=summary))

    async def _validate(
        self, assignment: runner_pb2.Assignment, progress: Numbered, results: Numbered
    ) -> None:
        summary = result_pb2.ValidationResult(metrics={"mAP50": 0.3}, images=4, instances=6)
        await results.send(result_pb2.ResultItem(validation=summary))

    async def _infer(self, assignment: runner_pb2.Assignment, progress: Numbered, results: Numbered) -> None:
        circle = result_pb2.Detection(class_name="circle", confidence=0.9)
        for index, image in enumerate(assignment.images):
            prediction = result_pb2.ImagePrediction(
                index=index, image_uri=image.display_name, width=32, height=32, detections=[circle]
            )
            await results.send(result_pb2.ResultItem(prediction=prediction))
        count = len(assignment.images)
        totals = result_pb2.InferenceResult(total_images=count, detections_per_class={"circle": count})
        await results.send(result_pb2.ResultItem(inference=totals))

    async def _artifact(
        self, assignment: runner_pb2.Assignment, path: str, name: str
    ) -> result_pb2.ResultItem:
        item = result_pb2.ResultItem()
        item.artifact.name = f"{assignment.job.name}/artifacts/{name}"
        item.artifact.uri = await self._runner.store(assignment.job.name, assignment.attempt, path, WEIGHTS)
        item.artifact.size_bytes = len(WEIGHTS)
        item.artifact.sha256 = hashlib.sha256(WEIGHTS).hexdigest()
        return item
