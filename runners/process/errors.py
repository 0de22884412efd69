"""What ends a job process early, and how each is told on the wire.

The reasons are those of visionmesh.errors.Reason, which cannot be imported here: it brings gRPC.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from google.rpc import code_pb2, error_details_pb2, status_pb2

from visionmesh.v1 import vision_pb2

DOMAIN = "visionmesh"
_SHOWN_VIOLATIONS = 20


class UserError(Exception):
    """The request cannot succeed as it is: what, why and what to do next. Never repeated."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "USER_ERROR",
        violations: Iterable[tuple[str, str]] = (),
        code: int = code_pb2.INVALID_ARGUMENT,
    ) -> None:
        """`violations` are (field, description) pairs; for labels the field is "file:line"."""
        super().__init__(message)
        self.reason = reason
        self.violations = tuple(violations)
        self.code = code


class Stopped(BaseException):
    """The agent, or Ctrl-C by hand, asked to stop.

    Not an Exception, so that frameworks that catch those do not swallow it.
    """


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, other than well."""

    outcome: "vision_pb2.AttemptState.ValueType"
    """FAILED or CANCELLED."""

    cause: "vision_pb2.AttemptCause.ValueType"
    """Why."""

    error: status_pb2.Status
    """The same with words."""


class Ended(Exception):
    """Another process of the job has failed, and told how."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.error.message)
        self.ending = ending


def status(
    code: int, reason: str, message: str, violations: Iterable[tuple[str, str]] = ()
) -> status_pb2.Status:
    """A google.rpc.Status with one ErrorInfo, and a BadRequest if fields are to blame."""
    made = status_pb2.Status(code=code, message=message)
    made.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    wrong = list(violations)[:_SHOWN_VIOLATIONS]
    if wrong:
        bad = error_details_pb2.BadRequest()
        for field, description in wrong:
            bad.field_violations.add(field=field, description=description)
        made.details.add().Pack(bad)
    return made


def ending_of(error: BaseException) -> Ending:
    """How an attempt ended that raised `error`."""
    if isinstance(error, Ended):
        return error.ending
    if isinstance(error, UserError):
        told = status(error.code, error.reason, str(error), error.violations)
        return Ending(vision_pb2.ATTEMPT_STATE_FAILED, vision_pb2.ATTEMPT_CAUSE_USER_ERROR, told)
    if isinstance(error, Stopped):
        told = status(code_pb2.CANCELLED, "CANCELLED", str(error) or "Stopped on request.")
        return Ending(vision_pb2.ATTEMPT_STATE_CANCELLED, vision_pb2.ATTEMPT_CAUSE_CANCELLED, told)
    if is_out_of_memory(error):
        message = f"Memory ran out: {_last_line(error)}. Use a smaller batch_size, image_size or model."
        told = status(code_pb2.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", message)
        return Ending(vision_pb2.ATTEMPT_STATE_FAILED, vision_pb2.ATTEMPT_CAUSE_OUT_OF_MEMORY, told)
    message = f"The framework failed: {_last_line(error)}. The attempt's log has the traceback."
    told = status(code_pb2.INTERNAL, "FRAMEWORK_ERROR", message)
    return Ending(vision_pb2.ATTEMPT_STATE_FAILED, vision_pb2.ATTEMPT_CAUSE_FRAMEWORK_ERROR, told)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether CPU or GPU memory ran out, by the names and words that torch and Python use."""
    seen: BaseException | None = error
    while seen is not None:
        names = {kind.__name__ for kind in type(seen).__mro__}
        words = str(seen).lower()
        if names & {"MemoryError", "OutOfMemoryError"}:
            return True
        if isinstance(seen, RuntimeError) and (
            "out of memory" in words or "can't allocate memory" in words or "not enough memory" in words
        ):
            return True
        seen = seen.__cause__
    return False


def _last_line(error: BaseException) -> str:
    """The last line of the traceback: type and message."""
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}".rstrip(".") if first else type(error).__name__
