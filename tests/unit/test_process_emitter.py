"""Events come out typed, in order, and not too many of them."""

import json
import math
import os
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from runners.process.emitter import Emitter, to_fd, to_json_lines
from runners.process.errors import UserError, ending_of
from runners.process.framing import Decoder
from visionmesh.v1 import process_pb2, progress_pb2, result_pb2, vision_pb2


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.clock = Clock()
        self.emitter = Emitter(self._take, self.clock)

    def _take(self, message: Message) -> None:
        self.events.append(message)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_batches_are_due_twice_a_second(recorder: Recorder) -> None:
    due = []
    for _ in range(17):
        due.append(recorder.emitter.is_due("batch"))
        recorder.clock.now += 0.125
    assert [index for index, is_due in enumerate(due) if is_due] == [0, 4, 8, 12, 16]


def test_image_progress_is_throttled_but_its_end_is_told(recorder: Recorder) -> None:
    for done in range(1, 11):
        recorder.emitter.images(done, 10, 0, 1.0)
    told = [event.progress.images_progress.images_done for event in recorder.events]
    assert told == [1, 10]


def test_an_epoch_carries_nan_as_it_is(recorder: Recorder) -> None:
    recorder.emitter.epoch(
        1,
        3,
        {"train_loss": math.nan, "mAP50": 0.5},
        learning_rate=0.01,
        duration_s=1.5,
        eta_s=3,
        is_best=True,
    )
    told = recorder.events[0].progress.epoch_completed
    assert math.isnan(told.metrics["train_loss"])
    assert told.metrics["mAP50"] == 0.5
    assert told.epoch_duration.ToTimedelta().total_seconds() == 1.5
    assert told.is_best


def test_log_lines_are_split_cut_and_never_empty(recorder: Recorder) -> None:
    recorder.emitter.log(progress_pb2.LOG_LEVEL_WARNING, "one\n\n  \ntwo  \n" + "ü" * 8192)
    lines = [event.progress.log_line.message for event in recorder.events]
    assert lines[:2] == ["one", "two"]
    assert len(lines) == 3
    assert len(lines[2].encode()) <= 8192
    assert set(lines[2]) == {"ü"}


def test_results_and_files_are_events_of_their_own(recorder: Recorder) -> None:
    recorder.emitter.prediction(result_pb2.ImagePrediction(index=4))
    recorder.emitter.training_result(result_pb2.TrainingResult(best_epoch=2))
    recorder.emitter.validation_result(result_pb2.ValidationResult(images=3))
    recorder.emitter.inference_result(result_pb2.InferenceResult(total_images=5))
    recorder.emitter.file(process_pb2.OutputFile(path="best.pt"))
    assert recorder.events[0].result.prediction.index == 4
    assert recorder.events[1].result.training.best_epoch == 2
    assert recorder.events[2].result.validation.images == 3
    assert recorder.events[3].result.inference.total_images == 5
    assert recorder.events[4].file.path == "best.pt"


def test_the_end_says_how_and_why(recorder: Recorder) -> None:
    recorder.emitter.ended(None)
    recorder.emitter.ended(ending_of(UserError("Epochs are 0.")))
    assert recorder.events[0].ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED
    assert not recorder.events[0].ended.HasField("error")
    assert recorder.events[1].ended.outcome == vision_pb2.ATTEMPT_STATE_FAILED
    assert recorder.events[1].ended.cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR
    assert recorder.events[1].ended.error.message == "Epochs are 0."


def written(write: Callable[[int], Callable[[Message], None]]) -> bytes:
    reader, writer = os.pipe()
    emitter = Emitter(write(writer))
    emitter.stage(vision_pb2.STAGE_TRAINING, "line\nbreak")
    emitter.ended(None)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        return stream.read()


def test_the_agent_gets_delimited_messages() -> None:
    stage, ended = Decoder(process_pb2.ProcessEvent).feed(written(to_fd))
    assert stage.progress.stage_changed.stage == vision_pb2.STAGE_TRAINING
    assert stage.progress.HasField("event_time")
    assert ended.ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED


def test_people_get_one_json_object_per_line() -> None:
    stage, ended = map(json.loads, written(to_json_lines).splitlines())
    assert stage["progress"]["stageChanged"]["detail"] == "line\nbreak"
    assert ended == {"ended": {"outcome": "ATTEMPT_STATE_SUCCEEDED"}}


def test_a_reader_that_is_gone_is_noticed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        Emitter(to_fd(writer)).ended(None)
    os.close(writer)
