"""What a scripted runner does with each kind of job, one after the other."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runner_double import Numbered, RunnerDouble, ended, epoch, started

from visionmesh.v1 import result_pb2, runner_pb2

WEIGHTS = b"weights" * 100_000
IMAGES = 3


@asynccontextmanager
async def working(runner: RunnerDouble) -> AsyncIterator[None]:
    """The runner runs whatever it is assigned while the context lasts."""
    task = asyncio.create_task(_work(runner))
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _work(runner: RunnerDouble) -> None:
    while True:
        assignment = await runner.assignments.get()
        await runner.answer(assignment, True)
        name, attempt = assignment.job.name, assignment.attempt
        progress, results = await runner.progress(name, attempt), await runner.results(name, attempt)
        await progress.send(started())
        if assignment.job.HasField("train"):
            await train(runner, assignment, progress, results)
        else:
            await infer(results)
        await progress.send(ended(results_number=results.number))
        runner.holds.discard((name, attempt))


async def train(
    runner: RunnerDouble, assignment: runner_pb2.Assignment, progress: Numbered, results: Numbered
) -> None:
    """Three epochs and a checkpoint."""
    name, attempt = assignment.job.name, assignment.attempt
    await progress.send(*(epoch(number, mAP50=number / 4) for number in (1, 2, 3)))
    best = result_pb2.Artifact(
        name=f"{name}/artifacts/best",
        uri=await runner.store(name, attempt, "best.pt", WEIGHTS),
        size_bytes=len(WEIGHTS),
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )
    summary = result_pb2.TrainingResult(
        best_epoch=3, epochs_completed=3, best_metrics={"mAP50": 0.75}, checkpoints=[best.name]
    )
    await results.send(result_pb2.ResultItem(artifact=best), result_pb2.ResultItem(training=summary))


async def infer(results: Numbered) -> None:
    """A circle in each of three images."""
    circle = result_pb2.Detection(class_name="circle", confidence=0.9)
    for index in range(IMAGES):
        image = result_pb2.ImagePrediction(index=index, image_uri=f"{index}.jpg", detections=[circle])
        await results.send(result_pb2.ResultItem(prediction=image))
    totals = result_pb2.InferenceResult(total_images=IMAGES, detections_per_class={"circle": IMAGES})
    await results.send(result_pb2.ResultItem(inference=totals))
