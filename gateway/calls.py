"""Calls to the scheduler, made by descriptor on one channel that all requests share."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from gateway.routes import Route
from visionmesh.errors import Reason, invalid

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

_PASSED_ON = ("authorization", "traceparent", "tracestate")
"""Headers that the scheduler is told as they are."""


class Calls:
    """Makes calls on one channel, and uploads on another, synchronous one (see sending)."""

    def __init__(
        self, channel: grpc.aio.Channel, uploads: grpc.Channel, address: str, timeout: float
    ) -> None:
        self.address = address
        self._channel, self._uploads, self._timeout = channel, uploads, timeout

    def unary(self, route: Route, request: Any, headers: Mapping[str, str]) -> Any:
        """One request, one answer."""
        call = self._channel.unary_unary(route.grpc_path, *_codec(route))
        timeout = timeout_of(headers)
        return call(
            request, timeout=self._timeout if timeout is None else timeout, metadata=_metadata(headers)
        )

    def reading(self, route: Route, request: Any, headers: Mapping[str, str]) -> Any:
        """One request, a stream of answers. Without Grpc-Timeout it has no deadline."""
        call = self._channel.unary_stream(route.grpc_path, *_codec(route))
        return call(request, timeout=timeout_of(headers), metadata=_metadata(headers))

    def writing(self, route: Route, headers: Mapping[str, str]) -> Callable[[Any], Any]:
        """Begins a call with an iterator of requests, and returns its future, of grpc's synchronous kind.

        Without Grpc-Timeout it has no deadline.
        """
        call = self._uploads.stream_unary(route.grpc_path, *_codec(route))
        return partial(call.future, timeout=timeout_of(headers), metadata=tuple(_metadata(headers)))


def _codec(route: Route) -> tuple[Any, Any]:
    taken, given = GetMessageClass(route.method.input_type), GetMessageClass(route.method.output_type)
    return taken.SerializeToString, given.FromString


def _metadata(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, headers[name]) for name in _PASSED_ON if name in headers]


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that Grpc-Timeout gives the call: digits and a unit, as in 500m or 30S. None without one.

    Raises INVALID_ARGUMENT.
    """
    text = headers.get("grpc-timeout")
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        why = f"got {text!r}. Give up to 8 digits and a unit: H, M, S, m (ms), u or n, as in 30S."
        raise invalid(Reason.INVALID_ARGUMENT, "Grpc-Timeout", why)
    return int(found[1]) * _SECONDS[found[2]]
