"""A runner's stream through something that takes only small messages: split, then left out, never looped."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from runners.agent.oversized import fitting_result, fitting_update, smaller_result, smaller_update
from runners.agent.stream import NumberedStream
from runners.agent.transport import Backoff
from visionmesh.errors import Reason, error_of
from visionmesh.limits import MAX_ITEM_BYTES, MAX_UPDATE_BYTES
from visionmesh.v1 import progress_pb2, result_pb2, result_pb2_grpc, vision_pb2

LIMIT = 64 * 1024


class Results(result_pb2_grpc.ResultServiceServicer):
    """Stores what comes, and counts how often it was tried."""

    def __init__(self) -> None:
        self.items: list[result_pb2.ResultItem] = []
        self.streams = 0

    async def PublishResults(self, requests: Any, context: Any) -> None:  # noqa: N802
        self.streams += 1
        await anext(aiter(requests))
        while True:
            await context.write(result_pb2.PublishResultsResponse(committed_number=len(self.items)))
            request = await anext(aiter(requests), None)
            if request is None:
                return
            assert request.first_number <= len(self.items) + 1
            self.items += request.items[len(self.items) + 1 - request.first_number :]


@asynccontextmanager
async def delivering(results: Results) -> AsyncIterator[Any]:
    """A stream to a server that takes no message above LIMIT."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LIMIT)])
    result_pb2_grpc.add_ResultServiceServicer_to_server(results, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def request(first: int, items: Sequence[result_pb2.ResultItem]) -> result_pb2.PublishResultsRequest:
        return result_pb2.PublishResultsRequest(first_number=first, items=items)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = result_pb2_grpc.ResultServiceStub(channel)
        opening = result_pb2.PublishResultsRequest(job="jobs/j", attempt=1)
        stream: Any = NumberedStream(
            "results",
            stub.PublishResults,
            opening,
            request,
            backoff=Backoff(0.01, 0.02),
            smaller=smaller_result,
        )
        running = asyncio.create_task(stream.run())
        try:
            yield stream
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    await server.stop(None)


def prediction(index: int, size_bytes: int) -> result_pb2.ResultItem:
    found = result_pb2.Detection(mask=result_pb2.Mask(counts=bytes(size_bytes)))
    made = result_pb2.ImagePrediction(
        index=index, image_uri=f"{index}.jpg", width=8, height=9, detections=[found]
    )
    return result_pb2.ResultItem(prediction=made)


async def deliver(*sizes: int) -> Results:
    """Predictions of these sizes, all put before the first is acknowledged."""
    results = Results()
    async with delivering(results) as stream, asyncio.timeout(20):
        for index, size in enumerate(sizes):
            stream.put_now(prediction(index, size))
        await stream.delivered()
    return results


async def test_batches_that_are_too_large_are_split() -> None:
    results = await deliver(*[10_000] * 40)
    assert [item.prediction.index for item in results.items] == list(range(40))
    assert all(item.prediction.detections for item in results.items)
    assert results.streams == 2


async def test_a_message_that_is_too_large_alone_gives_way_to_an_error_and_nothing_else_does() -> None:
    results = await deliver(100, 10_000, LIMIT, 100, 60_000, 2 * LIMIT, 100)
    assert [item.prediction.index for item in results.items] == list(range(7))
    failed = [item.prediction for item in results.items if item.prediction.HasField("error")]
    assert [found.index for found in failed] == [2, 5]
    for found in failed:
        assert (found.image_uri, found.width, found.height) == (f"{found.index}.jpg", 8, 9)
        assert error_of(found.error).reason == Reason.MESSAGE_TOO_LARGE
        assert "left out" in found.error.message
    assert results.streams <= 1 + 2 * 2


async def test_after_that_it_goes_on_as_before() -> None:
    results = Results()
    async with delivering(results) as stream, asyncio.timeout(20):
        stream.put_now(prediction(0, LIMIT))
        await stream.delivered()
        streams = results.streams
        for index in range(1, 200):
            stream.put_now(prediction(index, 10))
        await stream.delivered()
    assert len(results.items) == 200
    assert results.streams == streams


def confusion(classes: int) -> result_pb2.ResultItem:
    names = [f"class {number}" for number in range(classes)]
    measured = result_pb2.ValidationResult(
        metrics={"mAP50": 0.5},
        confusion_matrix=result_pb2.ConfusionMatrix(labels=names, counts=[300] * classes**2),
    )
    return result_pb2.ResultItem(validation=measured)


async def test_what_fits_stays_as_it_is_and_what_does_not_says_so() -> None:
    fine = prediction(1, 1000)
    assert fitting_result(fine) is fine
    assert fitting_result(prediction(1, MAX_ITEM_BYTES)).prediction.HasField("error")
    measured = fitting_result(confusion(1500)).validation
    assert dict(measured.metrics) == {"mAP50": 0.5}
    assert not measured.HasField("confusion_matrix")
    metrics = {f"metric {number}": 0.5 for number in range(20_000)}
    epoch = progress_pb2.ProgressUpdate(epoch_completed=progress_pb2.EpochCompleted(epoch=1, metrics=metrics))
    said = fitting_update(epoch)
    assert epoch.ByteSize() > MAX_UPDATE_BYTES
    assert said.log_line.level == progress_pb2.LOG_LEVEL_ERROR
    assert "epoch_completed" in said.log_line.message


async def test_the_end_of_an_attempt_stays_an_end() -> None:
    ended = progress_pb2.ProgressUpdate(
        attempt_ended=progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_FAILED, results_number=7)
    )
    ended.attempt_ended.error.message = "no " * 10**6
    shorter = smaller_update(ended)
    assert shorter.attempt_ended.results_number == 7
    assert shorter.ByteSize() < 2000


@pytest.mark.parametrize("kind", ["training", "inference"])
async def test_a_summary_that_cannot_be_cut_becomes_nothing(kind: str) -> None:
    item = result_pb2.ResultItem()
    getattr(item, kind).SetInParent()
    assert smaller_result(item) == result_pb2.ResultItem()
