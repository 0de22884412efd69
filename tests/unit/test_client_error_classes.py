"""A program branches on the class of an error, and where it wants more, on its reason."""

import copy
import pickle
from dataclasses import replace

import grpc
import pytest
from google.rpc import code_pb2, status_pb2

from visionmesh import errors
from visionmesh.client import JobFailed
from visionmesh.errors import MeshError, Reason, Violation
from visionmesh.v1 import job_pb2

KINDS = [
    (grpc.StatusCode.CANCELLED, errors.Cancelled),
    (grpc.StatusCode.UNKNOWN, errors.ServerError),
    (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
    (grpc.StatusCode.DEADLINE_EXCEEDED, errors.TimedOut),
    (grpc.StatusCode.NOT_FOUND, errors.NotFound),
    (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
    (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
    (grpc.StatusCode.FAILED_PRECONDITION, errors.WrongState),
    (grpc.StatusCode.ABORTED, errors.Superseded),
    (grpc.StatusCode.OUT_OF_RANGE, errors.InvalidRequest),
    (grpc.StatusCode.UNIMPLEMENTED, errors.Unsupported),
    (grpc.StatusCode.INTERNAL, errors.ServerError),
    (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
    (grpc.StatusCode.DATA_LOSS, errors.DataLoss),
    (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
]


@pytest.mark.parametrize(("code", "kind"), KINDS, ids=lambda value: getattr(value, "name", ""))
def test_each_code_has_its_class(code: grpc.StatusCode, kind: type[MeshError]) -> None:
    made = MeshError(code, "ANYTHING", "what, why, next")
    assert type(made) is kind
    assert type(errors.error_of(errors.status_of(made))) is kind
    assert type(errors.error_of(status_pb2.Status(code=code.value[0]))) is kind


def test_no_code_is_forgotten() -> None:
    assert {code for code, _ in KINDS} == set(grpc.StatusCode) - {grpc.StatusCode.OK}


FACTORIES = [
    (errors.invalid(Reason.BAD_FILTER, "filter", "is odd"), errors.InvalidRequest),
    (errors.invalid_fields(Reason.DATASET_INVALID, [Violation("a:1", "is odd")]), errors.InvalidRequest),
    (errors.not_found("job", "jobs/x"), errors.NotFound),
    (errors.precondition(Reason.JOB_ALREADY_ENDED, "it has ended"), errors.WrongState),
    (errors.superseded("jobs/x", 2), errors.Superseded),
]


@pytest.mark.parametrize(("error", "kind"), FACTORIES, ids=lambda value: getattr(value, "reason", ""))
def test_each_factory_makes_its_class(error: MeshError, kind: type[MeshError]) -> None:
    assert type(error) is kind


def test_what_is_too_large_is_not_taken_for_what_passes_by_waiting() -> None:
    error = MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, "split it")
    assert type(error) is errors.TooLarge
    assert not isinstance(error, errors.Overloaded)


def test_a_timeout_is_what_python_calls_one() -> None:
    assert isinstance(MeshError(grpc.StatusCode.DEADLINE_EXCEEDED, "", "late"), TimeoutError)


def test_known_reasons_are_reasons_and_those_of_newer_servers_stay_words() -> None:
    status = errors.status(code_pb2.NOT_FOUND, Reason.DATASET_NOT_FOUND, "no such dataset")
    match errors.error_of(status).reason:
        case Reason.DATASET_NOT_FOUND as reason:
            assert isinstance(reason, Reason)
        case other:
            pytest.fail(f"{other} did not match")
    newer = errors.error_of(errors.status_of(MeshError(grpc.StatusCode.ABORTED, "OF_TOMORROW", "")))
    assert newer.reason == "OF_TOMORROW"
    assert not isinstance(newer.reason, Reason)


@pytest.mark.parametrize(
    "error",
    [
        MeshError(grpc.StatusCode.NOT_FOUND, Reason.NOT_FOUND, "gone", {"resource_name": "jobs/x"}),
        MeshError(grpc.StatusCode.DEADLINE_EXCEEDED, "LATE", "late", from_mesh=False),
        JobFailed(grpc.StatusCode.INTERNAL, "BAD", "it failed", job=job_pb2.Job(name="jobs/x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_being_copied_replaced_and_sent_to_another_process(error: MeshError) -> None:
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error)), replace(error)):  # noqa: S301 - our own
        assert (type(same), same, str(same)) == (type(error), error, error.message)
