"""What is shown is what is there: tables, words, bars and lines."""

import io
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from visionmesh import errors
from visionmesh.cli import _tables, _values, _words
from visionmesh.cli._live import Board
from visionmesh.errors import Reason
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2


def rendered(*things: object, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    for thing in things:
        console.print(thing)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.98765, "0.988"),
        (12.5, "12.500"),
        (0.00012, "1.2e-04"),
        (123456.0, "1.235e+05"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert _words.number(value) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800), ("7", 7)]
)
def test_durations(text: str, seconds: float) -> None:
    assert _values.duration(text) == timedelta(seconds=seconds)


def test_metrics_are_ordered_canonical_first() -> None:
    assert _words.ordered({"zeta": 1, "recall": 1, "mAP50": 1, "alpha": 1, "train_loss": 1}) == [
        "train_loss",
        "mAP50",
        "recall",
        "alpha",
        "zeta",
    ]


def test_a_newer_servers_state_is_shown_by_number() -> None:
    assert _words.state_name(99) == "STATE 99"  # type: ignore[arg-type]
    assert _words.state_name(vision_pb2.JOB_STATE_QUEUED) == "QUEUED"


def test_jobs_table_says_how_far_each_job_is() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    training = job_pb2.Job(name="jobs/t", state=vision_pb2.JOB_STATE_RUNNING, priority=7, attempt=2)
    training.train.SetInParent()
    training.progress.epoch, training.progress.total_epochs = 3, 8
    training.progress.metrics["mAP50"] = 0.5
    training.create_time.FromDatetime(now - timedelta(minutes=5))
    inference = job_pb2.Job(name="jobs/i", state=vision_pb2.JOB_STATE_QUEUED, display_name="[night] run")
    inference.infer.SetInParent()
    inference.progress.images_done, inference.progress.images_total = 4, 16
    lines = rendered(_tables.jobs_table([training, inference], now)).splitlines()
    assert lines[1].split() == [
        "jobs/t",
        "train",
        "RUNNING",
        "epoch",
        "3/8",
        "mAP50",
        "0.500",
        "7",
        "2",
        "5m",
    ]
    assert "4/16 images" in lines[2]
    assert "[night] run" in lines[2]


def test_confusion_matrix_has_predicted_rows_and_true_columns() -> None:
    matrix = result_pb2.ConfusionMatrix(
        labels=["cat", "dog", "background"], counts=[5, 1, 0, 0, 7, 2, 0, 0, 0], confidence_threshold=0.25
    )
    lines = rendered(_tables.confusion_table(matrix)).splitlines()
    assert lines[1].split() == ["predicted", "\\", "true", "cat", "dog", "background"]
    assert [line.split() for line in lines[2:5]] == [
        ["cat", "5", "1", "·"],
        ["dog", "·", "7", "2"],
        ["background", "·", "·", "·"],
    ]


def test_a_prediction_tells_what_its_task_tells() -> None:
    square = result_pb2.Polygon(coordinates=[1, 1, 1, 4, 4, 4, 4, 1])
    outlined = result_pb2.Detection(class_name="cup", confidence=0.9, polygons=[square])
    outlined.mask.height, outlined.mask.width = 10, 30
    points = [result_pb2.Keypoint(confidence=confidence) for confidence in (0.9, 0.6, 0.1)]
    found = [
        outlined,
        result_pb2.Detection(class_name="hand", confidence=0.8, keypoints=points),
        result_pb2.Detection(class_name="ship", confidence=0.7, oriented_box={"angle": math.pi / 6}),
    ]
    text = str(_tables.found_text(result_pb2.ImagePrediction(detections=found)))
    assert text == "cup 0.90 over 3.0%, hand 0.80 with 2 of 3 points, ship 0.70 at 30°"


def test_a_prediction_shows_the_surest_findings_and_how_many_more() -> None:
    found = [result_pb2.Detection(class_name=f"c{n}", confidence=0.9) for n in range(6)]
    prediction = result_pb2.ImagePrediction(detections=found)
    assert str(_tables.found_text(prediction)) == "c0 0.90, c1 0.90, c2 0.90, c3 0.90 +2"
    assert str(_tables.found_text(result_pb2.ImagePrediction())) == "nothing"
    faces = [result_pb2.Face(confidence=0.88), result_pb2.Face(confidence=0.73)]
    assert str(_tables.found_text(result_pb2.ImagePrediction(faces=faces))) == "face 0.88, face 0.73"
    vector = result_pb2.Embedding(artifact="jobs/a/artifacts/embedding.bin")
    assert str(_tables.found_text(result_pb2.ImagePrediction(embedding=vector))) == "vector"
    vector.values.extend([0.6, 0.8])
    assert str(_tables.found_text(result_pb2.ImagePrediction(embedding=vector))) == "vector of 2"
    failed = result_pb2.ImagePrediction(error=errors.status(3, Reason.IMAGE_UNREADABLE, "not an image"))
    assert str(_tables.found_text(failed)) == "not an image"


def test_runner_says_what_it_has() -> None:
    runner = runner_pb2.Runner(
        name="runners/r",
        framework="ultralytics",
        framework_version="8.4",
        capacity=runner_pb2.RunnerCapacity(slots=2, cpus=4, memory_bytes=8 * 2**30),
    )
    assert _tables.runner_text(runner) == (
        "runners/r: ultralytics 8.4 on 4 CPU cores, 8 GiB, no GPU; 2 jobs at a time"
    )


def event(sequence: int = 1, job: str = "jobs/a", **update: object) -> progress_pb2.JobEvent:
    return progress_pb2.JobEvent(
        sequence=sequence,
        job=job,
        attempt=2,
        update=progress_pb2.ProgressUpdate(**update),  # type: ignore[arg-type]
    )


def shown(events: list[progress_pb2.JobEvent], *, terminal: bool, width: int = 200, jobs: int = 1) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, color_system=None)
    with Board(console) as board:
        for letter in "abc"[:jobs]:
            job = job_pb2.Job(name=f"jobs/{letter}", state=vision_pb2.JOB_STATE_QUEUED)
            job.train.epochs = 4
            board.add(job, letter * 3)
        for one in events:
            board.event(one)
    return file.getvalue()


EPOCH = progress_pb2.EpochCompleted(
    epoch=1,
    total_epochs=4,
    learning_rate=0.003,
    is_best=True,
    metrics={
        "train_loss": math.nan,
        "val_loss": 1.5,
        "mAP50": 0.5,
        "mAP50-95": 0.25,
        "precision": 1,
        "recall": 0,
    },
)
EPOCH.epoch_duration.FromMilliseconds(1500)


def test_without_a_terminal_there_is_one_line_per_epoch_and_no_bar() -> None:
    second = progress_pb2.EpochCompleted()
    second.CopyFrom(EPOCH)
    second.epoch = 2
    text = shown(
        [
            event(epoch_completed=EPOCH),
            event(batch_progress=progress_pb2.BatchProgress(epoch=2, batch=1, total_batches=12)),
            event(epoch_completed=second),
        ],
        terminal=False,
    )
    header, first, last = text.splitlines()
    assert header.split() == [
        *("epoch", "train_loss", "val_loss", "mAP50", "mAP50-95", "precision", "recall", "rate", "time")
    ]
    assert first.split() == [
        "1/4",
        "nan",
        "1.500",
        "0.500",
        "0.250",
        "1.000",
        "0.000",
        "0.003",
        "1.5s",
        "best",
    ]
    assert last.startswith("2/4")
    assert header.index("time") + 4 == first.index("1.5s") + 4


def test_lines_of_several_jobs_say_whose_they_are_and_fit_into_80_columns() -> None:
    text = shown([event(job="jobs/b", epoch_completed=EPOCH)], terminal=False, width=80, jobs=2)
    assert all(line.startswith("bbb") for line in text.splitlines())
    assert len(text.splitlines()) == 2
    assert "mAP50" in text


def test_on_a_terminal_there_is_a_bar() -> None:
    text = shown(
        [event(batch_progress=progress_pb2.BatchProgress(epoch=2, batch=6, total_batches=12))], terminal=True
    )
    assert "epoch 2/4" in text
    assert "━" in text


def test_a_failed_attempt_and_the_next_one_are_told() -> None:
    failed = progress_pb2.AttemptEnded(
        outcome=vision_pb2.ATTEMPT_STATE_FAILED,
        cause=vision_pb2.ATTEMPT_CAUSE_PROCESS_DIED,
        error=errors.status(13, Reason.PROCESS_DIED, "killed by SIGKILL"),
    )
    waiting = progress_pb2.StateChanged(
        from_state=vision_pb2.JOB_STATE_RUNNING, to_state=vision_pb2.JOB_STATE_PENDING, message="again in 5 s"
    )
    again = progress_pb2.AttemptStarted(hardware=["cpu: 2 cores"])
    text = shown(
        [event(attempt_ended=failed), event(state_changed=waiting), event(attempt_started=again)],
        terminal=False,
    )
    assert text.splitlines() == [
        "attempt 2 ended: PROCESS_DIED killed by SIGKILL",
        "PENDING again in 5 s",
        "attempt 2 started on cpu: 2 cores",
    ]


def test_a_late_watch_shows_how_long_the_job_took() -> None:
    started, ended = (
        event(attempt_started=progress_pb2.AttemptStarted()),
        event(state_changed=progress_pb2.StateChanged(to_state=vision_pb2.JOB_STATE_SUCCEEDED)),
    )
    started.commit_time.FromSeconds(1_000_000)
    ended.commit_time.FromSeconds(1_000_075)
    assert "0:01:15" in shown([started, ended], terminal=True)


def test_an_event_of_a_newer_server_is_passed_over() -> None:
    assert shown([event(), event(system_sample=progress_pb2.SystemSample(cpu_cores=1))], terminal=False) == ""


def test_messages_do_not_import_grpc_and_the_command_line_no_framework() -> None:
    code = (
        "import sys, visionmesh.v1.job_pb2; assert 'grpc' not in sys.modules; "
        "import visionmesh.cli, visionmesh.demo; "
        "assert not {'torch', 'ultralytics', 'cv2', 'scheduler', 'runners'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
