"""The command line against a mesh that answers as told: what is sent, printed, and exited with."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.api import httpbody_pb2
from google.protobuf.struct_pb2 import Value
from grpc_status import rpc_status
from typer.testing import CliRunner, Result

from visionmesh import errors
from visionmesh.cli import app
from visionmesh.errors import MeshError, Reason, Violation
from visionmesh.v1 import (
    dataset_pb2,
    dataset_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    vision_pb2,
)

PLOT = b"picture"


class Mesh(
    job_pb2_grpc.JobServiceServicer,
    progress_pb2_grpc.ProgressServiceServicer,
    result_pb2_grpc.ResultServiceServicer,
    dataset_pb2_grpc.DatasetServiceServicer,
):
    """Ends every job in `end` after two epochs; refuses with `refusal` if there is one."""

    def __init__(self) -> None:
        self.end = vision_pb2.JOB_STATE_SUCCEEDED
        self.refusal: MeshError | None = None
        self.created: list[job_pb2.CreateJobRequest] = []
        self.listed: list[job_pb2.ListJobsRequest] = []
        self.cancelled: list[job_pb2.CancelJobRequest] = []
        self.uploads: list[dataset_pb2.UploadFileHeader] = []
        self.datasets: dict[str, dataset_pb2.Dataset] = {}
        self.kind = "train"
        self.let_end = threading.Event()
        self.let_end.set()

    def _job(self, name: str, state: "vision_pb2.JobState.ValueType") -> job_pb2.Job:
        job = job_pb2.Job(name=name, state=state, attempt=1, priority=5)
        getattr(job, self.kind).SetInParent()
        if state == vision_pb2.JOB_STATE_FAILED:
            job.error.CopyFrom(errors.status(3, Reason.USER_ERROR, "the labels are [odd]"))
        return job

    def _check(self, context) -> None:
        if self.refusal is not None:
            context.abort_with_status(rpc_status.to_status(errors.status_of(self.refusal)))

    def CreateJob(self, request, context):  # noqa: N802
        self._check(context)
        self.created.append(request)
        job = job_pb2.Job()
        job.CopyFrom(request.job)
        job.name, job.state = "jobs/j1", vision_pb2.JOB_STATE_QUEUED
        self.kind = job.WhichOneof("spec")
        return job

    def GetJob(self, request, context):  # noqa: N802
        self._check(context)
        return self._job(request.name, self.end if self.let_end.is_set() else vision_pb2.JOB_STATE_RUNNING)

    def ListJobs(self, request, context):  # noqa: N802
        self.listed.append(request)
        return job_pb2.ListJobsResponse(
            jobs=[self._job("jobs/j1", vision_pb2.JOB_STATE_RUNNING), self._job("jobs/j2", self.end)]
        )

    def CancelJob(self, request, context):  # noqa: N802
        self._check(context)
        self.cancelled.append(request)
        return self._job(request.name, vision_pb2.JOB_STATE_RUNNING)

    def ExplainJob(self, request, context):  # noqa: N802
        return job_pb2.ExplainJobResponse(summary="It runs.")

    def WatchProgress(self, request, context):  # noqa: N802
        for sequence, update in enumerate(updates(self.end), start=1):
            if sequence > request.after_sequence:
                event = progress_pb2.JobEvent(sequence=sequence, job=request.job, attempt=1, update=update)
                yield progress_pb2.WatchProgressResponse(event=event)
        self.let_end.wait(20)

    def GetResult(self, request, context):  # noqa: N802
        if self.end == vision_pb2.JOB_STATE_FAILED:
            context.abort_with_status(
                rpc_status.to_status(errors.status_of(errors.not_found("result", request.name)))
            )
        result = result_pb2.Result(name=request.name, partial=self.end != vision_pb2.JOB_STATE_SUCCEEDED)
        if self.kind == "train":
            result.training.CopyFrom(
                result_pb2.TrainingResult(
                    best_epoch=2,
                    epochs_completed=2,
                    best_metrics={"mAP50": 0.97},
                    final_metrics={"mAP50": 0.95},
                )
            )
        else:
            result.inference.CopyFrom(result_pb2.InferenceResult(total_images=2, failed_images=1))
        return result

    def ListPredictions(self, request, context):  # noqa: N802
        if self.kind == "train":
            return result_pb2.ListPredictionsResponse()
        found = result_pb2.Detection(class_name="circle", confidence=0.91)
        unreadable = errors.status(3, Reason.IMAGE_UNREADABLE, "not an image")
        return result_pb2.ListPredictionsResponse(
            predictions=[
                result_pb2.ImagePrediction(index=0, image_uri="file:///x/a.jpg", detections=[found]),
                result_pb2.ImagePrediction(index=1, image_uri="file:///x/b.jpg", error=unreadable),
            ]
        )

    def ListArtifacts(self, request, context):  # noqa: N802
        plot = result_pb2.Artifact(
            name=f"{request.parent}/artifacts/plots/matrix.png",
            content_type="image/png",
            size_bytes=len(PLOT),
            sha256=hashlib.sha256(PLOT).hexdigest(),
        )
        best = result_pb2.Artifact(
            name=f"{request.parent}/artifacts/best",
            uri="file:///store/checkpoints/j1/best.pt",
            size_bytes=len(PLOT),
            sha256=hashlib.sha256(PLOT).hexdigest(),
        )
        return result_pb2.ListArtifactsResponse(artifacts=[best, plot])

    def DownloadArtifact(self, request, context):  # noqa: N802
        yield httpbody_pb2.HttpBody(content_type="image/png", data=PLOT[request.read_offset :])

    def GetDataset(self, request, context):  # noqa: N802
        if request.name not in self.datasets:
            status = errors.status_of(errors.not_found("dataset", request.name))
            context.abort_with_status(rpc_status.to_status(status))
        return self.datasets[request.name]

    def CreateDataset(self, request, context):  # noqa: N802
        self._check(context)
        dataset = dataset_pb2.Dataset(name=f"datasets/{request.dataset_id}")
        self.datasets[dataset.name] = dataset
        return dataset

    def UploadFile(self, requests, context):  # noqa: N802
        header = next(requests).header
        for _ in requests:
            pass
        self.uploads.append(header)
        return dataset_pb2.Upload(name=f"uploads/u{len(self.uploads)}")


def updates(end: "vision_pb2.JobState.ValueType") -> list[progress_pb2.ProgressUpdate]:
    made = [
        progress_pb2.ProgressUpdate(state_changed=progress_pb2.StateChanged(to_state=2, reason="CREATED")),
        progress_pb2.ProgressUpdate(attempt_started=progress_pb2.AttemptStarted(pid=7, hardware=["2 cores"])),
    ]
    for number in (1, 2):
        epoch = progress_pb2.EpochCompleted(
            epoch=number, total_epochs=2, metrics={"mAP50": 0.4 * number, "train_loss": 1.0}, is_best=True
        )
        made.append(progress_pb2.ProgressUpdate(epoch_completed=epoch))
    warning = progress_pb2.LogLine(level=progress_pb2.LOG_LEVEL_WARNING, message="look [here]")
    chatter = progress_pb2.LogLine(level=progress_pb2.LOG_LEVEL_INFO, message="chatter")
    made += [progress_pb2.ProgressUpdate(log_line=line) for line in (warning, chatter)]
    change = progress_pb2.StateChanged(from_state=3, to_state=end)
    return [*made, progress_pb2.ProgressUpdate(state_changed=change)]


class Terminal:
    """Runs vmesh against the mesh."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"VISIONMESH_ADDRESS": self.address})


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


@pytest.fixture
def vmesh(mesh: Mesh) -> Iterator[Terminal]:
    server = grpc.server(ThreadPoolExecutor(8))
    job_pb2_grpc.add_JobServiceServicer_to_server(mesh, server)
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(mesh, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(mesh, server)
    dataset_pb2_grpc.add_DatasetServiceServicer_to_server(mesh, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Terminal(f"127.0.0.1:{port}")
    mesh.let_end.set()
    server.stop(0).wait()


def test_train_sends_every_field_that_was_given_and_no_other(mesh: Mesh, vmesh: Terminal) -> None:
    ran = vmesh(
        *("train", "--model", "yolo11n", "--dataset", "shapes", "--epochs", "3", "--lr", "0.01"),
        *("--set", "mosaic=0", "--set", "cos_lr=true", "--set", "note=a=b", "--priority", "0"),
        *(
            "--after",
            "j0",
            "--label",
            "team=vision",
            "--runner",
            "zone=eu",
            "--gpus",
            "1",
            "--max-attempts",
            "1",
        ),
        *("--run-timeout", "5m", "--checkpoint", "j0", "--request-id", "r1", "--name", "mine", "-d"),
    )
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == "jobs/j1\n"
    (request,) = mesh.created
    job, spec = request.job, request.job.train
    assert request.request_id == "r1"
    assert (spec.model, spec.dataset, spec.epochs, spec.learning_rate) == (
        "yolo11n",
        "datasets/shapes",
        3,
        0.01,
    )
    assert spec.checkpoint == "jobs/j0/artifacts/best"
    assert not spec.HasField("batch_size")
    assert dict(spec.hyperparameters.fields) == {
        "mosaic": Value(number_value=0),
        "cos_lr": Value(bool_value=True),
        "note": Value(string_value="a=b"),
    }
    assert job.HasField("priority")
    assert job.priority == 0
    assert list(job.depends_on) == ["jobs/j0"]
    assert (dict(job.labels), dict(job.runner_selector)) == ({"team": "vision"}, {"zone": "eu"})
    assert (job.resources.gpus, job.retry_policy.max_attempts, job.run_timeout.seconds) == (1, 1, 300)
    assert job.display_name == "mine"


def test_an_attached_training_prints_a_line_per_epoch_and_then_its_result(vmesh: Terminal) -> None:
    ran = vmesh("train", "--model", "m", "--dataset", "shapes")
    assert ran.exit_code == 0, ran.output
    lines = ran.stderr.splitlines()
    assert sum(line.startswith(("1/2", "2/2")) for line in lines) == 2
    assert any("look [here]" in line for line in lines)
    assert "chatter" not in ran.stderr
    assert "the best was epoch 2" in ran.stdout
    assert "0.970" in ran.stdout
    assert "jobs/j1/artifacts/best" in ran.stdout


def test_logs_shows_every_line(vmesh: Terminal) -> None:
    assert "chatter" in vmesh("watch", "j1", "--logs").stderr


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (vision_pb2.JOB_STATE_SUCCEEDED, 0),
        (vision_pb2.JOB_STATE_FAILED, 1),
        (vision_pb2.JOB_STATE_CANCELLED, 3),
    ],
    ids=["succeeded", "failed", "cancelled"],
)
@pytest.mark.parametrize("output", ["table", "jsonl"])
def test_exit_code_says_how_the_job_ended(
    mesh: Mesh, vmesh: Terminal, end: "vision_pb2.JobState.ValueType", code: int, output: str
) -> None:
    mesh.end = end
    assert vmesh("watch", "jobs/j1", "-o", output).exit_code == code


def test_a_failed_job_says_why(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.end = vision_pb2.JOB_STATE_FAILED
    assert "the labels are [odd]" in vmesh("watch", "j1").stderr


def test_watch_as_jsonl_is_one_event_a_line_after_the_given_sequence(vmesh: Terminal) -> None:
    ran = vmesh("watch", "j1", "--after", "3", "-o", "jsonl")
    assert [json.loads(line)["sequence"] for line in ran.stdout.splitlines()] == ["4", "5", "6", "7"]


def test_a_refusal_names_each_field_and_the_reason_without_a_traceback(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.refusal = errors.invalid_fields(
        Reason.UNKNOWN_HYPERPARAMETER,
        [
            Violation("job.train.hyperparameters.mosiac", "unknown; did you mean mosaic?"),
            Violation("labels/train/00003.txt:2", "class 7 of 3"),
        ],
    )
    ran = vmesh("train", "--model", "m", "--dataset", "shapes", "--set", "mosiac=0")
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert "job.train.hyperparameters.mosiac: unknown; did you mean mosaic?" in ran.stderr
    assert "labels/train/00003.txt:2: class 7 of 3" in ran.stderr
    assert "UNKNOWN_HYPERPARAMETER" in ran.stderr
    assert "Traceback" not in ran.output


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.UNAVAILABLE, 4),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 5),
        (grpc.StatusCode.FAILED_PRECONDITION, 2),
        (grpc.StatusCode.NOT_FOUND, 2),
        (grpc.StatusCode.INTERNAL, 2),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_exit_code_of_errors(mesh: Mesh, vmesh: Terminal, code: grpc.StatusCode, exit_code: int) -> None:
    mesh.refusal = MeshError(code, Reason.NOT_FOUND, "what, why, next")
    ran = vmesh("cancel", "j1")
    assert ran.exit_code == exit_code
    assert "what, why, next" in ran.stderr


def test_nobody_there_is_4_and_says_where_it_looked() -> None:
    ran = Terminal("127.0.0.1:1")("jobs")
    assert ran.exit_code == 4
    assert "127.0.0.1:1" in ran.stderr
    assert "vmesh up" in ran.stderr


def test_dry_run_stores_nothing_and_says_so(mesh: Mesh, vmesh: Terminal) -> None:
    ran = vmesh("train", "--model", "m", "--dataset", "shapes", "--dry-run")
    assert ran.exit_code == 0
    assert mesh.created[0].validate_only
    assert json.loads(ran.stdout)["train"]["model"] == "m"


def test_a_local_folder_is_sent_once(mesh: Mesh, vmesh: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "My Shapes"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "0.jpg").write_bytes(b"0")
    for _ in range(2):
        assert vmesh("train", "--model", "m", "--dataset", str(folder), "-d").exit_code == 0
    assert [header.filename for header in mesh.uploads] == ["My Shapes.zip"]
    (name,) = mesh.datasets
    assert name.startswith("datasets/my-shapes-")
    assert [request.job.train.dataset for request in mesh.created] == [name, name]
    (folder / "images" / "1.jpg").write_bytes(b"1")
    vmesh("train", "--model", "m", "--dataset", str(folder), "-d")
    assert len(mesh.datasets) == 2


def test_broken_labels_of_a_sent_folder_are_listed(mesh: Mesh, vmesh: Terminal, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [a]")
    mesh.refusal = errors.invalid(Reason.DATASET_INVALID, "labels/train/0.txt:1", "5 numbers, not 4")
    ran = vmesh("train", "--model", "m", "--dataset", str(tmp_path))
    assert ran.exit_code == 2
    assert "labels/train/0.txt:1: 5 numbers, not 4" in ran.stderr
    assert mesh.created == []


def test_a_path_that_does_not_exist_is_a_usage_error(mesh: Mesh, vmesh: Terminal) -> None:
    ran = vmesh("train", "--model", "m", "--dataset", "./no-such-folder")
    assert ran.exit_code == 2
    assert "no-such-folder" in ran.stderr
    assert mesh.created == []


def test_validate_takes_a_local_checkpoint(mesh: Mesh, vmesh: Terminal, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    ran = vmesh(
        *("validate", "--checkpoint", str(tmp_path / "best.pt"), "--dataset", "datasets/shapes"),
        *("--split", "test", "--confidence", "0.5", "--iou", "0.6", "-d"),
    )
    assert ran.exit_code == 0, ran.output
    spec = mesh.created[0].job.validate
    assert (spec.checkpoint, spec.dataset, spec.split) == ("uploads/u1", "datasets/shapes", "test")
    assert (spec.confidence_threshold, spec.iou_threshold) == (0.5, 0.6)


def test_infer_takes_a_split_of_a_dataset(mesh: Mesh, vmesh: Terminal) -> None:
    ran = vmesh("infer", "--checkpoint", "jobs/j0", "--images", "shapes:test", "--save-overlays", "-d")
    assert ran.exit_code == 0, ran.output
    spec = mesh.created[0].job.infer
    assert spec.checkpoint == "jobs/j0/artifacts/best"
    assert spec.images.dataset_images == job_pb2.DatasetImages(dataset="datasets/shapes", split="test")
    assert spec.save_overlays


def test_infer_sends_the_images_of_a_folder_as_one_archive(
    mesh: Mesh, vmesh: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "notes.txt").write_bytes(b"no image")
    ran = vmesh("infer", "--checkpoint", "j0", "--images", str(tmp_path), "-d")
    assert ran.exit_code == 0, ran.output
    assert [header.filename for header in mesh.uploads] == ["images.zip"]
    assert mesh.created[0].job.infer.images.upload == "uploads/u1"


def test_infer_takes_uris(mesh: Mesh, vmesh: Terminal) -> None:
    vmesh("infer", "--checkpoint", "j0", "--images", "s3://b/1.jpg", "--images", "s3://b/2.jpg", "-d")
    assert list(mesh.created[0].job.infer.images.uris.uris) == ["s3://b/1.jpg", "s3://b/2.jpg"]


def test_a_folder_without_images_is_a_usage_error(mesh: Mesh, vmesh: Terminal, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"no image")
    ran = vmesh("infer", "--checkpoint", "j0", "--images", str(tmp_path))
    assert ran.exit_code == 2
    assert "no images there" in ran.stderr


def test_embed_asks_for_numbers_only_if_told_to(mesh: Mesh, vmesh: Terminal) -> None:
    for more in ([], ["--inline", "--raw"]):
        ran = vmesh("embed", "--checkpoint", "j0", "--images", "shapes:test", "-d", *more)
        assert ran.exit_code == 0, ran.output
    quiet, inline = (request.job.embed for request in mesh.created)
    assert (quiet.inline_values, quiet.normalize) == (False, True)
    assert (inline.inline_values, inline.normalize) == (True, False)


def test_faces_are_detected_without_weights(mesh: Mesh, vmesh: Terminal) -> None:
    settings = ("--model", "haar-frontal", "--confidence", "0.5", "--max-faces", "3", "--no-crops")
    ran = vmesh("faces", "detect", "--images", "shapes:test", *settings, "--set", "min_size=60", "-d")
    assert ran.exit_code == 0, ran.output
    spec = mesh.created[0].job.detect_faces
    assert (spec.model, spec.checkpoint, spec.images.dataset_images.split) == ("haar-frontal", "", "test")
    assert (spec.confidence_threshold, spec.max_faces, spec.save_crops) == (0.5, 3, False)
    assert dict(spec.hyperparameters) == {"min_size": 60}


def test_faces_are_embedded_with_two_checkpoints(mesh: Mesh, vmesh: Terminal, tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"detector")
    ran = vmesh(
        *("faces", "embed", "--images", "shapes:test", "--checkpoint", str(tmp_path / "yunet.onnx")),
        *("--embedding-checkpoint", "j0", "--embedding-model", "timm", "--inline", "-d"),
    )
    assert ran.exit_code == 0, ran.output
    spec = mesh.created[0].job.embed_faces
    assert spec.detection.checkpoint == "uploads/u1"
    assert spec.embedding_checkpoint == "jobs/j0/artifacts/best"
    assert (spec.embedding_model, spec.inline_values, spec.normalize) == ("timm", True, True)
    missing = vmesh("faces", "embed", "--images", "shapes:test")
    assert missing.exit_code == 2
    assert "--embedding-checkpoint" in missing.output


def test_infer_shows_what_was_found_and_what_could_not_be_read(vmesh: Terminal) -> None:
    ran = vmesh("infer", "--checkpoint", "j0", "--images", "shapes:test")
    assert ran.exit_code == 0, ran.output
    assert "circle 0.91" in ran.stdout
    assert "not an image" in ran.stdout


def test_jobs_lists_a_line_per_job(mesh: Mesh, vmesh: Terminal) -> None:
    ran = vmesh(
        "jobs", "--state", "running", "--state", "queued", "--kind", "train", "--filter", "priority >= 5"
    )
    assert ran.exit_code == 0
    assert mesh.listed[0].filter == "state = RUNNING|QUEUED AND kind = train AND priority >= 5"
    assert [line.split()[:3] for line in ran.stdout.splitlines()[1:]] == [
        ["jobs/j1", "train", "RUNNING"],
        ["jobs/j2", "train", "SUCCEEDED"],
    ]


def test_jobs_as_json(vmesh: Terminal) -> None:
    assert [job["name"] for job in json.loads(vmesh("jobs", "-o", "json").stdout)] == ["jobs/j1", "jobs/j2"]
    lines = vmesh("jobs", "-o", "jsonl", "--limit", "1").stdout.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["JOB_STATE_RUNNING"]


def test_an_unknown_state_is_a_usage_error(vmesh: Terminal) -> None:
    ran = vmesh("jobs", "--state", "sleeping")
    assert ran.exit_code == 2
    assert "pending, queued, running" in " ".join(ran.stderr.replace("│", " ").split())


def test_cancel_passes_the_grace_period_on(mesh: Mesh, vmesh: Terminal) -> None:
    ran = vmesh("cancel", "j1", "--grace", "1.5s")
    assert ran.exit_code == 0
    assert mesh.cancelled[0].grace_period.ToMilliseconds() == 1500
    assert "jobs/j1 is stopping" in ran.stdout


def test_cancel_waits_until_the_job_has_ended(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.end = vision_pb2.JOB_STATE_CANCELLED
    assert "CANCELLED" in vmesh("cancel", "j1", "--wait").stdout


def test_waiting_too_long_is_5(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.let_end.clear()
    assert vmesh("cancel", "j1", "--wait", "--timeout", "100ms").exit_code == 5


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.let_end.clear()
    command = [sys.executable, "-m", "visionmesh.cli", "watch", "j1", "--address", vmesh.address]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watch.stderr is not None
    for line in watch.stderr:
        if line.startswith("2/2"):
            break
    watch.send_signal(signal.SIGINT)
    _, said = watch.communicate(timeout=20)
    assert watch.returncode == 130
    assert f"vmesh watch jobs/j1 --address {vmesh.address}" in said
    assert "Traceback" not in said
    assert mesh.cancelled == []


def test_result_as_json_holds_everything(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.kind = "infer"
    found = json.loads(vmesh("result", "j1", "-o", "json").stdout)
    assert found["result"]["inference"]["totalImages"] == "2"
    assert len(found["predictions"]) == 2
    assert len(found["artifacts"]) == 2
    lines = vmesh("result", "j1", "-o", "jsonl").stdout.splitlines()
    kinds = [next(iter(json.loads(line))) for line in lines]
    assert kinds == ["job", "result", "prediction", "prediction", "artifact", "artifact"]


def test_result_saves_files_under_their_names_with_an_ending(vmesh: Terminal, tmp_path: Path) -> None:
    ran = vmesh("result", "j1", "--save", str(tmp_path / "out"))
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "out/plots/matrix.png").read_bytes() == PLOT
    assert (tmp_path / "out/best.pt").read_bytes() == PLOT


def test_a_partial_result_says_so(mesh: Mesh, vmesh: Terminal) -> None:
    mesh.end = vision_pb2.JOB_STATE_CANCELLED
    assert "partial" in vmesh("result", "j1").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--dataset", "shapes", "--set", "mosaic"),
        ("train", "--dataset", "shapes", "--set", "a=1", "--set", "a=2"),
        ("train", "--dataset", "shapes", "--task", "guess"),
        ("train", "--dataset", "shapes", "--run-timeout", "soon"),
        ("train", "--dataset", "shapes", "--epochs", "99999999999"),
        ("train",),
        ("nonsense",),
        ("infer", "--checkpoint", "j0", "--images", "s3://b/1.jpg", "--images", "nowhere.jpg"),
    ],
    ids=" ".join,
)
def test_usage_errors_are_2_and_send_nothing(mesh: Mesh, vmesh: Terminal, arguments: tuple[str, ...]) -> None:
    ran = vmesh(*arguments)
    assert ran.exit_code == 2
    assert "Traceback" not in ran.output
    assert mesh.created == []


@pytest.mark.parametrize(
    "name", ["up", "demo", "train", "validate", "infer", "jobs", "watch", "cancel", "result"]
)
def test_help_of_each_command_has_an_example(name: str) -> None:
    ran = CliRunner().invoke(app, [name, "--help"])
    assert ran.exit_code == 0
    assert f"vmesh {name}" in ran.stdout.partition("Example")[2]
