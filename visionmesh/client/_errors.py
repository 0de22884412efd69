"""The one place where what gRPC raises becomes a MeshError."""

import re
from typing import cast

import grpc
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.errors import MeshError, Reason

_NEXT_STEPS = {
    grpc.StatusCode.CANCELLED: "The call was cut off on the way; try again.",
    grpc.StatusCode.UNIMPLEMENTED: (
        "What listens there does not know this call: it is no VisionMesh scheduler, or an older one."
    ),
    grpc.StatusCode.UNAUTHENTICATED: "Something before the scheduler wants a login.",
    grpc.StatusCode.PERMISSION_DENIED: "Something before the scheduler refused the call.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "A limit is reached; try again later.",
}

_TOO_LARGE = re.compile(r"(CLIENT|SERVER): (Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")


def translate(error: grpc.RpcError, address: str) -> MeshError:
    """The MeshError that `error`, raised by a call to `address`, stands for.

    A google.rpc.Status in the trailing metadata is taken as it is; without one the message names
    the address and what to do, and the error is not `from_mesh`.
    """
    # What a call raises is its own grpc.Call; AioRpcError only looks like one.
    call = cast("grpc.Call", error)
    status = _status(call)
    if status is not None and status.details:
        return errors.error_of(status)
    code = call.code()
    said = (call.details() or "").strip() or "no details"
    if code is grpc.StatusCode.UNAVAILABLE:
        # gRPC wraps the cause in words about its own balancing.
        return unreachable(address, said.rpartition("last error: ")[2].removeprefix("UNKNOWN: "))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _no_answer(address)
    if (sizes := _TOO_LARGE.search(said)) is not None:
        return _too_large(address, *sizes.groups())
    next_step = _NEXT_STEPS.get(code, "See the scheduler's log.")
    return _unworded(code, code.name, f"{address} answered {code.name}: {said}. {next_step}")


def unreachable(address: str, said: str) -> MeshError:
    """UNAVAILABLE: nothing that speaks gRPC answers at `address`."""
    message = (
        f"No scheduler answers at {address} ({said}). Start the mesh with `vmesh up`, or say where "
        "it runs with --address or VISIONMESH_ADDRESS."
    )
    return _unworded(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, message, address=address)


def _no_answer(address: str) -> MeshError:
    message = (
        f"{address} did not answer in time. It may be overloaded or stopped: see its log, "
        "or give the call more time."
    )
    return _unworded(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message, address=address)


def _too_large(address: str, side: str, verb: str, size_bytes: str, limit_bytes: str) -> MeshError:
    """What gRPC refuses to carry: a request that this side sends, or an answer that it receives."""
    if (side, verb) in (("CLIENT", "Sent"), ("SERVER", "Received")):
        what = "The request to"
        next_step = "Send less at once: upload the files and name the upload, or make several calls of it."
    else:
        what, next_step = "The answer of", "Ask for less at once, with a smaller page_size."
    message = f"{what} {address} takes {size_bytes} bytes, and at most {limit_bytes} are taken. {next_step}"
    facts = {"size_bytes": size_bytes, "limit_bytes": limit_bytes}
    return _unworded(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, message, **facts)


def _unworded(code: grpc.StatusCode, reason: str, message: str, **metadata: str) -> MeshError:
    return MeshError(code, reason, message, metadata, from_mesh=False)


def closed(kind: str) -> RuntimeError:
    """A client of that kind is used before it is open, or after it was closed."""
    how = "async with" if kind.startswith("Async") else "with"
    return RuntimeError(f"the client is not open: use it inside `{how} {kind}() as client:`")


def is_interruption(error: MeshError) -> bool:
    """Whether a stream that ended with `error` is worth opening again where it stopped."""
    if error.code is grpc.StatusCode.UNAVAILABLE or error.reason == Reason.SLOW_CONSUMER:
        return True
    # A server that stops, or a proxy, ends streams with these codes and no word of its own.
    cut = (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return not error.from_mesh and error.code in cut


def _status(call: grpc.Call) -> "rpc_status.status_pb2.Status | None":
    try:
        return rpc_status.from_call(call)
    except ValueError:
        return None  # code or details differ from the attached status: a proxy rewrote one of them
