"""The checks of an audit: each reads a history and says what it saw and what is wrong."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from visionmesh import names
from visionmesh.audit._history import History
from visionmesh.client import TERMINAL_STATES
from visionmesh.v1 import progress_pb2, result_pb2, vision_pb2

MAX_PROBLEMS = 20
"""Problems that one check tells; the rest is counted."""


@dataclass
class Check:
    """What one check came to."""

    name: str
    """One word: "gapless", "unique", "ordered", "states", "epochs", "result" or "files"."""
    summary: str
    """What was looked at, for people."""
    problems: list[str] = field(default_factory=list)
    """What is wrong; empty if nothing is."""


def check_history(history: History) -> list[Check]:
    """Every check of a job that has ended, in the order of `_CHECKS`."""
    return [_run(name, look, history) for name, look in _CHECKS.items()]


Look = Callable[[History], Iterator[str]]
"""Yields a summary, then one text per problem."""


def _run(name: str, look: Look, history: History) -> Check:
    summary, *problems = look(history)
    hidden = len(problems) - MAX_PROBLEMS
    more = [f"… and {hidden} more"] if hidden > 0 else []
    return Check(name, summary, problems[:MAX_PROBLEMS] + more)


def _gapless(history: History) -> Iterator[str]:
    """Events and predictions share one sequence: 1, 2, 3, … up to the one that the job names."""
    last = history.job.sequence
    found = {event.sequence for event in history.events}
    found |= {prediction.sequence for prediction in history.predictions}
    counts = counted(len(history.events), "event"), counted(len(history.predictions), "prediction")
    yield f"{' and '.join(counts)}, sequence 1 to {last}"
    for numbers in _ranges("sequence", set(range(1, last + 1)) - found):
        yield f"{numbers} missing"
    for numbers in _ranges("sequence", (number for number in found if not 1 <= number <= last)):
        yield f"{numbers} stored, while the job says that {last} is its last"


def _ranges(what: str, numbers: Iterable[int]) -> Iterator[str]:
    """Numbers in words: "sequence 3 is", "sequences 5 to 9 are", …."""
    ordered = sorted(numbers)
    there = set(ordered)
    begins = [number for number in ordered if number - 1 not in there]
    ends = [number for number in ordered if number + 1 not in there]
    for first, last in zip(begins, ends, strict=True):
        yield f"{what} {first} is" if first == last else f"{what}s {first} to {last} are"


def _unique(history: History) -> Iterator[str]:
    """Nothing is stored twice, under whatever sequence."""
    yield "each event, epoch and image is there once"
    sequences = [event.sequence for event in history.events]
    sequences += [prediction.sequence for prediction in history.predictions]
    yield from _twice("sequence {}", sequences)
    yield from _twice("image {}", (prediction.index for prediction in history.predictions))
    yield from _twice("{1} of attempt {0}", _once_per_attempt(history.events))
    yield from _same_updates(history.events)


def _twice(what: str, keys: Iterable[object]) -> Iterator[str]:
    for key, count in Counter(keys).items():
        if count > 1:
            parts = key if isinstance(key, tuple) else (key,)
            yield f"{what.format(*parts)} is stored {count} times"


def _once_per_attempt(events: Iterable[progress_pb2.JobEvent]) -> Iterator[tuple[int, str]]:
    """(attempt, what) of everything that an attempt can tell only once."""
    for event in events:
        kind = event.update.WhichOneof("update")
        if kind == "epoch_completed":
            yield event.attempt, f"epoch {event.update.epoch_completed.epoch}"
        elif kind in {"attempt_started", "attempt_ended"}:
            yield event.attempt, f"{kind}"


def _same_updates(events: Iterable[progress_pb2.JobEvent]) -> Iterator[str]:
    """Updates that agree in every byte, their time included. A program may well log a line twice."""
    seen: dict[tuple[int, bytes], int] = {}
    for event in events:
        update = event.update
        if update.HasField("event_time") and not update.HasField("log_line"):
            key = (event.attempt, update.SerializeToString(deterministic=True))
            first = seen.setdefault(key, event.sequence)
            if first != event.sequence:
                kind = update.WhichOneof("update")
                yield f"sequence {event.sequence} repeats {first}: the same {kind} at the same time"


def _ordered(history: History) -> Iterator[str]:
    """An attempt that is over says nothing more, and neither does one that another has replaced."""
    yield f"{counted(history.job.attempt, 'attempt')}, one after another"
    over: set[int] = set()
    newest = 0
    for event in history.events:
        by_runner = not event.update.HasField("state_changed")
        if by_runner and event.attempt in over:
            yield f"sequence {event.sequence}: attempt {event.attempt} spoke after its end"
        if event.attempt < newest:
            yield f"sequence {event.sequence}: attempt {event.attempt} spoke after attempt {newest} began"
        newest = max(newest, event.attempt)
        if event.update.HasField("attempt_ended"):
            over.add(event.attempt)
    if newest > history.job.attempt:
        yield f"attempt {newest} spoke, while the job says that {history.job.attempt} is its last"


def _states(history: History) -> Iterator[str]:
    """Each change of state begins where the one before ended, and the last one is the job's state."""
    changes = [event for event in history.events if event.update.HasField("state_changed")]
    path = [event.update.state_changed.to_state for event in changes]
    yield " → ".join(dict.fromkeys(_state(state) for state in path)) or "none"
    before = vision_pb2.JOB_STATE_UNSPECIFIED
    for event in changes:
        change = event.update.state_changed
        if change.from_state != before:
            text = f"sequence {event.sequence}: the job left {_state(change.from_state)}"
            yield f"{text}, but it was {_state(before)}"
        before = change.to_state
    if before != history.job.state:
        yield f"the job is {_state(history.job.state)}, but its history ends with {_state(before)}"
    ends = [event.sequence for event in changes if event.update.state_changed.to_state in TERMINAL_STATES]
    if ends and history.job.sequence > ends[0]:
        yield f"the job ended with sequence {ends[0]}, and its history goes on to {history.job.sequence}"


def _state(state: "vision_pb2.JobState.ValueType") -> str:
    return vision_pb2.JobState.Name(state).removeprefix("JOB_STATE_")


def _epochs(history: History) -> Iterator[str]:
    """Epochs follow one another, and the metrics that are listed are those that were told."""
    told = [event for event in history.events if event.update.HasField("epoch_completed")]
    yield f"{counted(len(told), 'epoch')}, as told and as listed"
    for before, after in pairwise(told):
        number, last = after.update.epoch_completed.epoch, before.update.epoch_completed.epoch
        again = after.attempt != before.attempt and 1 <= number <= last
        if number != last + 1 and not again:
            where = f"sequence {after.sequence}, attempt {after.attempt}"
            yield f"{where}: epoch {number} follows epoch {last}"
    if told and told[0].update.epoch_completed.epoch != 1:
        yield f"the first epoch is {told[0].update.epoch_completed.epoch}"
    listed = {epoch.sequence: epoch.epoch for epoch in history.epochs}
    events = {event.sequence: event.update.epoch_completed for event in told}
    for sequence in sorted(listed.keys() ^ events.keys()):
        where = "listed and not in the history" if sequence in listed else "in the history and not listed"
        yield f"the epoch of sequence {sequence} is {where}"
    for sequence in sorted(listed.keys() & events.keys()):
        if not same_metrics(listed[sequence].metrics, events[sequence].metrics):
            yield f"the epoch of sequence {sequence} is listed with other metrics than were told"


def _result(history: History) -> Iterator[str]:
    """The result counts what is there, and names what is there."""
    result, succeeded = history.result, history.job.state == vision_pb2.JOB_STATE_SUCCEEDED
    yield _summary_of(result)
    if result is None:
        return
    if result.partial == succeeded:
        yield f"it says partial = {str(result.partial).lower()} of a job that is {_state(history.job.state)}"
    if result.HasField("training") and succeeded:
        yield from _training(history, result.training)
    if result.HasField("inference"):
        yield from _inference(history, result.inference)
    stored = {artifact.name for artifact in history.artifacts}
    for name in sorted(set(_named(history, result)) - stored):
        yield f"{name} is named, and there is no such artifact"


def _summary_of(result: result_pb2.Result | None) -> str:
    match result.WhichOneof("summary") if result is not None else None:
        case "training" if result:
            epochs = counted(result.training.epochs_completed, "epoch")
            return f"{epochs}, the best was {result.training.best_epoch}"
        case "validation" if result:
            return f"{counted(result.validation.images, 'image')} measured"
        case "inference" if result:
            images = counted(result.inference.total_images, "image")
            return f"{images}, {result.inference.failed_images} unreadable"
    return "the job has none"


def _training(history: History, training: result_pb2.TrainingResult) -> Iterator[str]:
    updates = (event.update for event in history.events if event.update.HasField("epoch_completed"))
    told = {update.epoch_completed.epoch: update.epoch_completed for update in updates}  # the newest of each
    last = max(told, default=0)
    if training.epochs_completed != last:
        yield f"it counts {training.epochs_completed} epochs, the history ends with epoch {last}"
    pairs = (("best", training.best_epoch, training.best_metrics), ("last", last, training.final_metrics))
    for word, number, metrics in pairs:
        if number not in told:
            yield f"its {word} epoch is {number}, which the history does not have"
        elif not same_metrics(metrics, told[number].metrics):
            yield f"its {word} metrics are not those that epoch {number} told"


def _inference(history: History, inference: result_pb2.InferenceResult) -> Iterator[str]:
    predictions = history.predictions
    failed = sum(prediction.failed for prediction in predictions)
    found = Counter(name for prediction in predictions for name in prediction.classes)
    if inference.total_images != len(predictions):
        yield f"it counts {inference.total_images} images, {len(predictions)} predictions are stored"
    if inference.failed_images != failed:
        yield f"it counts {inference.failed_images} unreadable images, {failed} are stored as such"
    for name in sorted(found.keys() | inference.detections_per_class.keys()):
        counted = inference.detections_per_class.get(name, 0)
        if counted != found[name]:
            yield f"it counts {counted} of class {name!r}, {found[name]} are stored"
    for numbers in _ranges("image", set(range(len(predictions))) - {entry.index for entry in predictions}):
        yield f"{numbers} missing"


def _named(history: History, result: result_pb2.Result) -> Iterator[str]:
    """Artifacts that result, events and predictions speak of."""
    if result.HasField("training"):
        yield from result.training.checkpoints
    matrix = result.validation.confusion_matrix
    named = [matrix.artifact, matrix.normalized_artifact]
    named += [prediction.overlay for prediction in history.predictions]
    named += [event.update.checkpoint_saved.artifact for event in history.events]
    yield from (name for name in named if names.is_artifact(name))


def counted(number: int, what: str) -> str:
    """A number with its noun: 1 event, 2 events."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def same_metrics(left: Mapping[str, float], right: Mapping[str, float]) -> bool:
    """Whether both hold the same values; NaN, which a diverged training tells, is like NaN."""
    if left.keys() != right.keys():
        return False
    return all(
        left[name] == right[name] or (math.isnan(left[name]) and math.isnan(right[name])) for name in left
    )


_CHECKS: dict[str, Look] = {
    "gapless": _gapless,
    "unique": _unique,
    "ordered": _ordered,
    "states": _states,
    "epochs": _epochs,
    "result": _result,
}
