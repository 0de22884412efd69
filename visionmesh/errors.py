"""What can go wrong, under the same names on both sides of the wire.

The scheduler raises a MeshError; its interceptor sends it as google.rpc.Status with one
ErrorInfo of domain "visionmesh". The client turns that status back into the same MeshError.
A message says what, why and what to do next.

Each MeshError is one of the subclasses below, by what a program does about it; `error.reason`
tells exactly what is the matter:

    try:
        job = client.create_job(...)
    except errors.InvalidRequest as error:
        match error.reason:
            case Reason.DATASET_NOT_FOUND: ...
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "visionmesh"

Detail = TypeVar("Detail", bound=Message)


class Reason(StrEnum):
    """Machine-readable reasons: ErrorInfo.reason, and what programs should branch on."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    UNKNOWN_FRAMEWORK = "UNKNOWN_FRAMEWORK"
    UNKNOWN_HYPERPARAMETER = "UNKNOWN_HYPERPARAMETER"
    BAD_HYPERPARAMETER = "BAD_HYPERPARAMETER"
    UNSUPPORTED = "UNSUPPORTED"
    DATASET_NOT_FOUND = "DATASET_NOT_FOUND"
    DATASET_UNLABELLED = "DATASET_UNLABELLED"
    DATASET_INVALID = "DATASET_INVALID"
    CHECKPOINT_NOT_FOUND = "CHECKPOINT_NOT_FOUND"
    PRETRAINED_UNAVAILABLE = "PRETRAINED_UNAVAILABLE"
    IMAGES_NOT_FOUND = "IMAGES_NOT_FOUND"
    DEPENDENCY_NOT_FOUND = "DEPENDENCY_NOT_FOUND"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    BAD_FILTER = "BAD_FILTER"
    BAD_PAGE_TOKEN = "BAD_PAGE_TOKEN"
    BAD_ARCHIVE = "BAD_ARCHIVE"
    BAD_URI = "BAD_URI"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    JOB_ALREADY_ENDED = "JOB_ALREADY_ENDED"
    JOB_NOT_ENDED = "JOB_NOT_ENDED"
    DATASET_IN_USE = "DATASET_IN_USE"
    JOB_IN_USE = "JOB_IN_USE"
    RESULTS_OUTSTANDING = "RESULTS_OUTSTANDING"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    ATTEMPT_SUPERSEDED = "ATTEMPT_SUPERSEDED"
    RUNNER_SUPERSEDED = "RUNNER_SUPERSEDED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    STORE_FULL = "STORE_FULL"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    DATA_LOSS = "DATA_LOSS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    JOB_CANCELLED = "JOB_CANCELLED"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    USER_ERROR = "USER_ERROR"
    FRAMEWORK_ERROR = "FRAMEWORK_ERROR"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PROCESS_DIED = "PROCESS_DIED"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    RUNNER_LOST = "RUNNER_LOST"
    INFRASTRUCTURE = "INFRASTRUCTURE"
    IMAGE_UNREADABLE = "IMAGE_UNREADABLE"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Violation:
    """One field of a request that is wrong."""

    field: str
    """Path of the field, such as "job.train.epochs"; for labels, "file:line"."""

    description: str
    """What is wrong and what would be right."""


@dataclass
class MeshError(Exception):
    """Any refusal or failure of the mesh.

    Made with a code and a reason it becomes the subclass that stands for them, as OSError does
    with its numbers.
    """

    code: grpc.StatusCode
    """The gRPC status code."""

    reason: Reason | str
    """A Reason, or the word of a newer server that this client does not know."""

    message: str
    """What, why and what to do next."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    """Facts for programs, such as expected_number."""

    violations: tuple[Violation, ...] = ()
    """The fields that are wrong, for INVALID_ARGUMENT."""

    retry_delay: timedelta | None = None
    """How long to wait before trying again, where the server says so."""

    from_mesh: bool = True
    """Whether the mesh said so itself; False for a lost connection, a proxy, a passed deadline."""

    def __new__(cls, code: grpc.StatusCode, reason: str, *_: object, **__: object) -> "MeshError":
        """An instance of the subclass for `code` and `reason`."""
        kind = _kind_of(code, reason) if cls is MeshError else cls
        return super(MeshError, kind).__new__(kind)

    def __post_init__(self) -> None:
        if self.reason in _REASONS:
            self.reason = Reason(self.reason)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), tuple(getattr(self, each.name) for each in fields(self))

    def __str__(self) -> str:
        return self.message


class InvalidRequest(MeshError):
    """Something in the request is wrong; `violations` names the fields. Mend it before trying again."""


class TooLarge(MeshError):
    """A message is larger than one side takes. Send or ask for less at once; the same again is no use."""


class NotFound(MeshError):
    """What is named does not exist, or is somebody else's."""


class AlreadyExists(MeshError):
    """The name or the request_id is taken. Choose another."""


class WrongState(MeshError):
    """The request is fine, the state of things is not: the job has ended, the dataset is in use."""


class Superseded(MeshError):
    """Somebody newer has taken over, such as a later attempt or the same runner started again. Stop."""


class Unauthenticated(MeshError):
    """Nobody knows who is calling. Log in."""


class PermissionDenied(MeshError):
    """Who is calling may not do this."""


class Overloaded(MeshError):
    """A limit is reached, such as a full store. Try again after `retry_delay`, or make room."""


class Unavailable(MeshError):
    """The mesh cannot be reached, or is away for a moment. Try again later."""


class TimedOut(MeshError, TimeoutError):
    """No answer came within the deadline; what was asked for may yet happen."""


class Cancelled(MeshError):
    """The call was cancelled on its way."""


class DataLoss(MeshError):
    """Bytes arrived damaged, or are damaged where they are stored."""


class Unsupported(MeshError):
    """What listens there does not know this call: an older mesh, or none at all."""


class ServerError(MeshError):
    """A defect of the mesh. Its log tells more."""


_KINDS: dict[grpc.StatusCode, type[MeshError]] = {
    grpc.StatusCode.OK: MeshError,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: WrongState,
    grpc.StatusCode.ABORTED: Superseded,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: DataLoss,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}

_REASONS = frozenset(reason.value for reason in Reason)


def _kind_of(code: grpc.StatusCode, reason: str) -> type[MeshError]:
    """The class for a code; what is too large shares its code with what passes by waiting."""
    return TooLarge if reason == Reason.MESSAGE_TOO_LARGE else _KINDS[code]


def invalid(reason: Reason, field: str, description: str) -> MeshError:
    """INVALID_ARGUMENT for one field."""
    return invalid_fields(reason, [Violation(field, description)])


def invalid_fields(reason: Reason, violations: Iterable[Violation]) -> MeshError:
    """INVALID_ARGUMENT for several fields; the message lists the first three."""
    wrong = tuple(violations)
    shown = "; ".join(f"{v.field}: {v.description}" for v in wrong[:3])
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    return MeshError(grpc.StatusCode.INVALID_ARGUMENT, reason, shown + more, violations=wrong)


def not_found(kind: str, name: str) -> MeshError:
    """NOT_FOUND, with the same words for what is absent and what is somebody else's."""
    message = f"There is no {kind} {name!r}. List what there is, and check the spelling."
    return MeshError(
        grpc.StatusCode.NOT_FOUND, Reason.NOT_FOUND, message, {"resource_type": kind, "resource_name": name}
    )


def precondition(reason: Reason, message: str, **metadata: str) -> MeshError:
    """FAILED_PRECONDITION: the request is fine, the state of things is not."""
    return MeshError(grpc.StatusCode.FAILED_PRECONDITION, reason, message, metadata)


def superseded(job: str, attempt: int) -> MeshError:
    """ABORTED: the attempt is over, or a newer one has begun."""
    message = f"Attempt {attempt} of {job} is not the live one any more. Kill its job process."
    return MeshError(
        grpc.StatusCode.ABORTED, Reason.ATTEMPT_SUPERSEDED, message, {"job": job, "attempt": str(attempt)}
    )


def status_of(error: MeshError) -> status_pb2.Status:
    """The google.rpc.Status that carries `error`: one ErrorInfo, and what else fits."""
    details = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata)),
        *_extra_details(error),
    ]
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _extra_details(
    error: MeshError,
) -> list[
    error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo
    | error_details_pb2.ResourceInfo
    | error_details_pb2.PreconditionFailure
]:
    details: list[
        error_details_pb2.BadRequest
        | error_details_pb2.RetryInfo
        | error_details_pb2.ResourceInfo
        | error_details_pb2.PreconditionFailure
    ] = []
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
        details.append(bad)
    if error.retry_delay is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_delay)
        details.append(retry)
    if error.code is grpc.StatusCode.NOT_FOUND and "resource_name" in error.metadata:
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.metadata["resource_type"],
                resource_name=error.metadata["resource_name"],
                description=error.message,
            )
        )
    if error.code is grpc.StatusCode.FAILED_PRECONDITION:
        failure = error_details_pb2.PreconditionFailure()
        subject = error.metadata.get("job", "")
        failure.violations.add(type=error.reason, subject=subject, description=error.message)
        details.append(failure)
    return details


def error_of(status: status_pb2.Status) -> MeshError:
    """The MeshError that `status` carries; without an ErrorInfo the reason is the code's name."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    info = _detail(status, error_details_pb2.ErrorInfo)
    bad = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    return MeshError(
        code,
        info.reason if info else code.name,
        status.message,
        dict(info.metadata) if info else {},
        tuple(Violation(v.field, v.description) for v in bad.field_violations) if bad else (),
        retry.retry_delay.ToTimedelta() if retry else None,
    )


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    """The detail of that kind, if there is one."""
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None


def status(code: int, reason: Reason, message: str, **metadata: str) -> status_pb2.Status:
    """A google.rpc.Status to be stored, such as Job.error; `code` is a google.rpc.Code."""
    return status_of(MeshError(_CODES[code], reason, message, metadata))


def reason_of(stored: status_pb2.Status) -> str:
    """The ErrorInfo.reason inside a stored status; empty if it has none."""
    return error_of(stored).reason if stored.details else ""


_CODES = {code.value[0]: code for code in grpc.StatusCode}
assert set(_CODES) == set(code_pb2.Code.values())  # noqa: S101 - both name the sixteen codes of gRPC and OK
