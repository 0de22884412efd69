"""Each fault that somebody plants in a history is found by the check that is made for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from visionmesh.audit import History, StoredPrediction, check_history
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2, vision_pb2

JOB = "jobs/j1"
PENDING, QUEUED, RUNNING, SUCCEEDED, FAILED = (
    vision_pb2.JOB_STATE_PENDING,
    vision_pb2.JOB_STATE_QUEUED,
    vision_pb2.JOB_STATE_RUNNING,
    vision_pb2.JOB_STATE_SUCCEEDED,
    vision_pb2.JOB_STATE_FAILED,
)


@dataclass
class Writer:
    """Writes a history as a scheduler would."""

    attempt: int = 0
    sequence: int = 0
    events: list[progress_pb2.JobEvent] = field(default_factory=list)
    predictions: list[StoredPrediction] = field(default_factory=list)

    def tell(self, **update: object) -> None:
        self.sequence += 1
        told = progress_pb2.ProgressUpdate(**update)  # type: ignore[arg-type]
        told.event_time.FromNanoseconds(1_000 * self.sequence)
        self.events.append(
            progress_pb2.JobEvent(sequence=self.sequence, job=JOB, attempt=self.attempt, update=told)
        )

    def state(self, source: int, target: int) -> None:
        change = progress_pb2.StateChanged(from_state=source, to_state=target)  # type: ignore[arg-type]
        self.tell(state_changed=change)

    def begin(self) -> None:
        self.attempt += 1
        self.tell(attempt_started=progress_pb2.AttemptStarted(pid=self.attempt))

    def epoch(self, number: int) -> None:
        metrics = {"mAP50": number / 10, "val_loss": math.nan}
        self.tell(epoch_completed=progress_pb2.EpochCompleted(epoch=number, total_epochs=3, metrics=metrics))

    def image(self, *classes: str, failed: bool = False) -> None:
        self.sequence += 1
        index = len(self.predictions)
        self.predictions.append(StoredPrediction(self.sequence, index, failed, classes, ""))

    def end(self, outcome: "vision_pb2.AttemptState.ValueType") -> None:
        self.tell(attempt_ended=progress_pb2.AttemptEnded(outcome=outcome))

    def history(self, result: result_pb2.Result) -> History:
        job = job_pb2.Job(name=JOB, state=SUCCEEDED, attempt=self.attempt, sequence=self.sequence)
        epochs = [
            progress_pb2.EpochMetrics(
                attempt=event.attempt, sequence=event.sequence, epoch=event.update.epoch_completed
            )
            for event in self.events
            if event.update.HasField("epoch_completed")
        ]
        artifacts = [result_pb2.Artifact(name=f"{JOB}/artifacts/{name}") for name in ("best", "last")]
        return History(job, self.events, self.predictions, epochs, artifacts, result)


def training() -> History:
    """Two attempts: the first fails after two epochs, the second goes on from the first of them."""
    writer = Writer()
    writer.state(0, QUEUED)
    writer.begin()
    writer.state(QUEUED, RUNNING)
    writer.epoch(1)
    writer.tell(log_line=progress_pb2.LogLine(message="the same"))
    writer.tell(log_line=progress_pb2.LogLine(message="the same"))
    writer.epoch(2)
    writer.end(vision_pb2.ATTEMPT_STATE_FAILED)
    writer.state(RUNNING, PENDING)
    writer.state(PENDING, QUEUED)
    writer.begin()
    writer.state(QUEUED, RUNNING)
    writer.epoch(2)
    writer.epoch(3)
    writer.end(vision_pb2.ATTEMPT_STATE_SUCCEEDED)
    writer.state(RUNNING, SUCCEEDED)
    result = result_pb2.Result(name=f"{JOB}/result", attempt=2)
    result.training.epochs_completed, result.training.best_epoch = 3, 2
    result.training.best_metrics.update({"mAP50": 0.2, "val_loss": math.nan})
    result.training.final_metrics.update({"mAP50": 0.3, "val_loss": math.nan})
    result.training.checkpoints.extend([f"{JOB}/artifacts/best", f"{JOB}/artifacts/last"])
    return writer.history(result)


def inference() -> History:
    """Three images, one of them unreadable."""
    writer = Writer()
    writer.state(0, QUEUED)
    writer.begin()
    writer.state(QUEUED, RUNNING)
    writer.image("circle", "circle")
    writer.image("square")
    writer.image(failed=True)
    writer.end(vision_pb2.ATTEMPT_STATE_SUCCEEDED)
    writer.state(RUNNING, SUCCEEDED)
    result = result_pb2.Result(name=f"{JOB}/result", attempt=1)
    result.inference.total_images, result.inference.failed_images = 3, 1
    result.inference.detections_per_class.update({"circle": 2, "square": 1})
    return writer.history(result)


def found(history: History) -> dict[str, list[str]]:
    return {check.name: check.problems for check in check_history(history) if check.problems}


@pytest.mark.parametrize("history", [training(), inference()], ids=["training", "inference"])
def test_a_whole_history_passes(history: History) -> None:
    assert found(history) == {}
    assert [check.name for check in check_history(history)] == [
        "gapless",
        "unique",
        "ordered",
        "states",
        "epochs",
        "result",
    ]


Plant = Callable[[History], History]


def without(sequence: int) -> Plant:
    return lambda history: replace(
        history,
        events=[event for event in history.events if event.sequence != sequence],
        predictions=[entry for entry in history.predictions if entry.sequence != sequence],
        epochs=[epoch for epoch in history.epochs if epoch.sequence != sequence],
    )


def repeated(sequence: int, as_sequence: int | None = None) -> Plant:
    """The event of that sequence once more, at the end or under a sequence that is taken."""

    def plant(history: History) -> History:
        again = progress_pb2.JobEvent()
        again.CopyFrom(next(event for event in history.events if event.sequence == sequence))
        again.sequence = as_sequence or history.job.sequence + 1
        job = changed_job(sequence=max(history.job.sequence, again.sequence))(history).job
        return replace(history, job=job, events=[*history.events, again])

    return plant


def changed_job(**fields: object) -> Plant:
    def plant(history: History) -> History:
        job = job_pb2.Job()
        job.CopyFrom(history.job)
        for name, value in fields.items():
            setattr(job, name, value)
        return replace(history, job=job)

    return plant


def changed_result(change: Callable[[result_pb2.Result], None]) -> Plant:
    def plant(history: History) -> History:
        result = result_pb2.Result()
        result.CopyFrom(history.result)
        change(result)
        return replace(history, result=result)

    return plant


def changed_event(sequence: int, change: Callable[[progress_pb2.JobEvent], None]) -> Plant:
    def plant(history: History) -> History:
        events = []
        for event in history.events:
            copy = progress_pb2.JobEvent()
            copy.CopyFrom(event)
            if copy.sequence == sequence:
                change(copy)
            events.append(copy)
        return replace(history, events=events)

    return plant


def counts(**fields: int) -> Plant:
    def change(result: result_pb2.Result) -> None:
        for name, value in fields.items():
            setattr(result.training if result.HasField("training") else result.inference, name, value)

    return changed_result(change)


def set_state_source(event: progress_pb2.JobEvent) -> None:
    event.update.state_changed.from_state = PENDING


def set_epoch(event: progress_pb2.JobEvent) -> None:
    event.update.epoch_completed.epoch = 4


def set_metric(event: progress_pb2.JobEvent) -> None:
    event.update.epoch_completed.metrics["mAP50"] = 0.9


def set_first_attempt(event: progress_pb2.JobEvent) -> None:
    event.attempt = 1


@pytest.mark.parametrize(
    ("whole", "plant", "check", "text"),
    [
        (training, without(5), "gapless", "sequence 5 is missing"),
        (inference, without(5), "gapless", "sequence 5 is missing"),
        (training, changed_job(sequence=19), "gapless", "sequences 17 to 19 are missing"),
        (training, changed_job(sequence=14), "gapless", "sequences 15 to 16 are stored, while the job says"),
        (training, repeated(4), "unique", "epoch 1 of attempt 1 is stored 2 times"),
        (training, repeated(4), "unique", "sequence 17 repeats 4: the same epoch_completed"),
        (training, repeated(4, 5), "unique", "sequence 5 is stored 2 times"),
        (training, repeated(2), "unique", "attempt_started of attempt 1 is stored 2 times"),
        (
            inference,
            lambda history: replace(
                history, predictions=[*history.predictions[:2], replace(history.predictions[2], index=1)]
            ),
            "unique",
            "image 1 is stored 2 times",
        ),
        (training, changed_event(13, set_first_attempt), "ordered", "attempt 1 spoke after its end"),
        (training, changed_event(13, set_first_attempt), "ordered", "spoke after attempt 2 began"),
        (training, changed_job(attempt=1), "ordered", "attempt 2 spoke, while the job says that 1"),
        (training, changed_job(state=FAILED), "states", "the job is FAILED, but its history ends with SUC"),
        (training, changed_event(3, set_state_source), "states", "left PENDING, but it was QUEUED"),
        (training, repeated(5), "states", "the job ended with sequence 16, and its history goes on to 17"),
        (training, changed_event(14, set_epoch), "epochs", "epoch 4 follows epoch 2"),
        (training, changed_event(4, set_epoch), "epochs", "the first epoch is 4"),
        (training, changed_event(4, set_metric), "epochs", "listed with other metrics than were told"),
        (
            training,
            lambda history: replace(history, epochs=history.epochs[1:]),
            "epochs",
            "the epoch of sequence 4 is in the history and not listed",
        ),
        (training, counts(epochs_completed=4), "result", "it counts 4 epochs, the history ends with epoch 3"),
        (training, counts(best_epoch=1), "result", "its best metrics are not those that epoch 1 told"),
        (training, counts(best_epoch=7), "result", "its best epoch is 7, which the history does not have"),
        (
            training,
            lambda history: replace(history, artifacts=history.artifacts[:1]),
            "result",
            "artifacts/last is named, and there is no such artifact",
        ),
        (
            training,
            changed_result(lambda result: setattr(result, "partial", True)),
            "result",
            "partial = true",
        ),
        (inference, counts(total_images=4), "result", "it counts 4 images, 3 predictions are stored"),
        (inference, counts(failed_images=0), "result", "it counts 0 unreadable images, 1 are stored as such"),
        (
            inference,
            changed_result(lambda result: result.inference.detections_per_class.update({"circle": 5})),
            "result",
            "it counts 5 of class 'circle', 2 are stored",
        ),
        (
            inference,
            lambda history: replace(
                history, predictions=[*history.predictions[:2], replace(history.predictions[2], index=7)]
            ),
            "result",
            "image 2 is missing",
        ),
    ],
)
def test_a_planted_fault_is_found(whole: Callable[[], History], plant: Plant, check: str, text: str) -> None:
    problems = found(plant(whole()))
    assert any(text in problem for problem in problems.get(check, [])), problems


def test_many_problems_are_counted_not_told() -> None:
    history = changed_job(sequence=1)(training())
    spread = replace(history, events=[event for event in history.events if event.sequence % 2])
    many = replace(spread, events=[progress_pb2.JobEvent(sequence=number) for number in range(100, 200, 2)])
    problems = found(many)["gapless"]
    assert len(problems) == 21
    assert problems[-1] == "… and 31 more"
