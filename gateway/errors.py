"""Errors over HTTP: google.rpc.Status as JSON, with the standard HTTP status of its code."""

import math
from collections.abc import Mapping

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status
from starlette.responses import JSONResponse

from visionmesh.client._errors import translate
from visionmesh.errors import MeshError, Reason, error_of, status_of

HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""As google/rpc/code.proto says."""


def http_status(error: MeshError) -> int:
    """The HTTP status that stands for `error`."""
    if error.reason == Reason.MESSAGE_TOO_LARGE:
        return 413
    return HTTP_STATUS[error.code]


def response_of(
    status: status_pb2.Status, http_code: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer that says `status`; `http_code` where HTTP has a better word than the code's."""
    error = error_of(status)
    told = dict(headers or {})
    if error.retry_delay is not None:
        told["Retry-After"] = str(max(1, math.ceil(error.retry_delay.total_seconds())))
    return JSONResponse(json_of(status), http_code or http_status(error), told)


def refused(
    error: MeshError, http_code: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to a request that the gateway itself refuses."""
    return response_of(status_of(error), http_code, headers)


def json_of(status: status_pb2.Status) -> dict[str, object]:
    """`status` as JSON; details of a type that nobody here knows keep their bytes."""
    try:
        found: dict[str, object] = MessageToDict(status)
    except TypeError:
        known = status_pb2.Status(code=status.code, message=status.message)
        known.details.extend(detail for detail in status.details if _is_known(detail))
        found = MessageToDict(known)
    return found


def _is_known(detail: object) -> bool:
    try:
        MessageToDict(detail)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def status_of_call(error: grpc.RpcError, address: str) -> status_pb2.Status:
    """What a call ended with; where it is no word of the mesh, one that says what to do."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None
    if status is not None and status.details:
        return status
    return status_of(translate(error, address))


def not_served(path: str) -> MeshError:
    """NOT_FOUND: no RPC has this path."""
    text = f"Nothing is served at {path!r}. /docs shows every path; mind slashes at the end."
    facts = {"resource_type": "path", "resource_name": path}
    return MeshError(grpc.StatusCode.NOT_FOUND, Reason.NOT_FOUND, text, facts)


def wrong_verb(verb: str, path: str, allowed: str) -> MeshError:
    """UNIMPLEMENTED: the path takes other methods."""
    text = f"{path} does not take {verb}; it takes {allowed}."
    return MeshError(grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_ALLOWED", text)


assert {code.value[0] for code in HTTP_STATUS} == set(code_pb2.Code.values())  # noqa: S101 - none is missing
