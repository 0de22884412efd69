"""Broken rules in words."""

from typing import Any

import pytest
from google.protobuf.message import Message

from scheduler.admission import violations_of
from scheduler.admission.rules import PATTERNS
from visionmesh.buf.validate import validate_pb2
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2

NAN = float("nan")


def train(**fields: Any) -> job_pb2.Job:
    return job_pb2.Job(train=job_pb2.TrainSpec(dataset="datasets/a", **fields))


def infer(**source: Any) -> job_pb2.Job:
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint="uploads/a", images=job_pb2.ImageSource(**source)))


def job(**fields: Any) -> job_pb2.Job:
    made = train()
    made.MergeFrom(job_pb2.Job(**fields))
    return made


@pytest.mark.parametrize(
    ("wrong", "field", "description"),
    [
        (train(epochs=0), "job.train.epochs", "must be between 1 and 100000, got 0"),
        (train(epochs=100001), "job.train.epochs", "must be between 1 and 100000, got 100001"),
        (job(priority=11), "job.priority", "must be between 0 and 10, got 11"),
        (job(priority=-1), "job.priority", "must be between 0 and 10, got -1"),
        (
            job_pb2.Job(),
            "job.spec",
            "set exactly one of train, validate, infer, embed, detect_faces, embed_faces",
        ),
        (infer(), "job.infer.images.source", "set exactly one of uris, upload, dataset_images, media_store"),
        (
            train(learning_rate=NAN),
            "job.train.learning_rate",
            "must be greater than 0 and less than or equal to 10, got nan",
        ),
        (train(patience=-1), "job.train.patience", "must be greater than or equal to 0, got -1"),
        (
            train(device="gpu"),
            "job.train.device",
            'must be "cpu", "mps", "cuda" or such as "cuda:0,1", got \'gpu\'',
        ),
        (
            train(task=99),
            "job.train.task",
            "must be one of TASK_DETECT, TASK_SEGMENT, TASK_CLASSIFY, TASK_POSE, TASK_OBB, got 99",
        ),
        (
            job_pb2.Job(train=job_pb2.TrainSpec(dataset="x y")),
            "job.train.dataset",
            "must have the form datasets/{dataset}, got 'x y'",
        ),
        (infer(upload="../x"), "job.infer.images.upload", "must have the form uploads/{upload}, got '../x'"),
        (
            infer(uris=job_pb2.ImageUris(uris=["a", ""])),
            "job.infer.images.uris.uris[1]",
            "must be at least 1 characters, got ''",
        ),
        (job(depends_on=["jobs/a", "b"]), "job.depends_on[1]", "must have the form jobs/{job}, got 'b'"),
        (
            job(labels={"Team": "x"}),
            'job.labels["Team"]',
            "must be 1 to 63 of a-z, 0-9, _, ., / and -, a letter or digit at the ends, got 'Team'",
        ),
        (
            job(display_name="x" * 201),
            "job.display_name",
            f"must be at most 200 characters, got '{'x' * 60}'… (201 characters)",
        ),
        (
            job(resources=job_pb2.Resources(cpus=NAN)),
            "job.resources.cpus",
            "must be between 0 and 1024, got nan",
        ),
        (
            job(retry_policy=job_pb2.RetryPolicy(initial_backoff={"seconds": 3601})),
            "job.retry_policy.initial_backoff",
            "must be between 0s and 3600s",
        ),
        (job(run_timeout={"seconds": -1}), "job.run_timeout", "must be greater than or equal to 0.001s"),
    ],
)
def test_a_broken_rule_of_a_job_is_told_once_by_its_path(
    wrong: job_pb2.Job, field: str, description: str
) -> None:
    found = violations_of(job_pb2.CreateJobRequest(job=wrong))
    assert [(violation.field, violation.description) for violation in found] == [(field, description)]


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        (job_pb2.CreateJobRequest(), "job", "required"),
        (job_pb2.GetJobRequest(name="jobs/"), "name", "must have the form jobs/{job}, got 'jobs/'"),
        (job_pb2.ListJobsRequest(page_size=1001), "page_size", "must be between 0 and 1000, got 1001"),
        (dataset_pb2.UploadFileRequest(), "message", "set exactly one of header, chunk"),
        (dataset_pb2.UploadFileHeader(filename="a/b"), "filename", "without / and \\, got 'a/b'"),
        (runner_pb2.ConnectRequest(), "message", "set exactly one of register, heartbeat"),
    ],
)
def test_a_broken_rule_of_other_requests(wrong: Message, field: str, words: str) -> None:
    (found,) = violations_of(wrong)
    assert found.field == field
    assert words in found.description


def test_all_that_is_wrong_is_told_together() -> None:
    wrong = job(priority=11, train=job_pb2.TrainSpec(epochs=0, batch_size=0))
    found = violations_of(job_pb2.CreateJobRequest(job=wrong))
    assert {violation.field for violation in found} == {
        "job.priority",
        "job.train.epochs",
        "job.train.batch_size",
    }


def test_what_is_right_is_not_complained_about() -> None:
    assert violations_of(job_pb2.CreateJobRequest(job=train(epochs=1, device="cuda:0,1"))) == []


def _patterns(rules: Message) -> list[str]:
    """Every string pattern below a rules message, those of repeated items and map keys included."""
    found = []
    for field, value in rules.ListFields():
        if field.name == "pattern":
            found.append(value)
        elif field.message_type is not None and isinstance(value, Message):
            found += _patterns(value)
    return found


def test_every_pattern_of_the_contracts_has_its_words() -> None:
    files = [module.DESCRIPTOR for module in (dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2)]
    messages = [message for file in files for message in file.message_types_by_name.values()]
    patterns = {
        pattern
        for message in messages
        for field in message.fields
        for pattern in _patterns(field.GetOptions().Extensions[validate_pb2.field])
    }
    assert patterns == PATTERNS.keys()
