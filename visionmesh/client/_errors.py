"""The one place where what gRPC raises becomes a MeshError."""

from typing import cast

import grpc
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.errors import MeshError, Reason


class TransportError(MeshError):
    """A failure that the mesh itself did not word: the connection, a proxy, a deadline."""


_NEXT_STEPS = {
    grpc.StatusCode.CANCELLED: "The call was cut off on the way; try again.",
    grpc.StatusCode.UNIMPLEMENTED: (
        "What listens there does not know this call: it is no VisionMesh scheduler, or an older one."
    ),
    grpc.StatusCode.UNAUTHENTICATED: "Something before the scheduler wants a login.",
    grpc.StatusCode.PERMISSION_DENIED: "Something before the scheduler refused the call.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "A message is larger than one side allows, or a limit is reached.",
}


def translate(error: grpc.RpcError, address: str) -> MeshError:
    """The MeshError that `error`, raised by a call to `address`, stands for.

    A google.rpc.Status in the trailing metadata is taken as it is; without one the result is a
    TransportError whose message names the address and what to do.
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
        message = (
            f"{address} did not answer in time. It may be overloaded or stopped: see its log, "
            "or give the call more time."
        )
        return TransportError(code, code.name, message, {"address": address})
    next_step = _NEXT_STEPS.get(code, "See the scheduler's log.")
    return TransportError(code, code.name, f"{address} answered {code.name}: {said}. {next_step}")


def unreachable(address: str, said: str) -> TransportError:
    """UNAVAILABLE: nothing that speaks gRPC answers at `address`."""
    message = (
        f"No scheduler answers at {address} ({said}). Start the mesh with `vmesh up`, or say where "
        "it runs with --address or VISIONMESH_ADDRESS."
    )
    return TransportError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, message, {"address": address})


def is_interruption(error: MeshError) -> bool:
    """Whether a stream that ended with `error` is worth opening again where it stopped."""
    if error.code is grpc.StatusCode.UNAVAILABLE or error.reason == Reason.SLOW_CONSUMER:
        return True
    # A server that stops, or a proxy, ends streams with these codes and no word of its own.
    cut = (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return isinstance(error, TransportError) and error.code in cut


def _status(call: grpc.Call) -> "rpc_status.status_pb2.Status | None":
    try:
        return rpc_status.from_call(call)
    except ValueError:
        return None  # code or details differ from the attached status: a proxy rewrote one of them
