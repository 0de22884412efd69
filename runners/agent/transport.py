"""Channels to the scheduler, and what their failures mean."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import cast

import grpc
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.errors import MeshError, Reason

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""An assignment with ten thousand images takes a few MiB; nothing comes near this."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Seconds from one try to the next."""

_SHUFFLED = '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'
"""Of several replicas each channel takes one, and after it has gone another: never all the same."""

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", _SHUFFLED),
    # A ping after 5 s without a word. A dead link, where TCP itself hears nothing, is noticed 3 s later.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In truth the time that one connection attempt may take: several round trips of a long or lossy link.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Else every channel to one address shares one connection, and data could delay a heartbeat.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)

QUICK_PING_SECONDS, PATIENT_PING_SECONDS = 3, 10
"""Longest wait for the answer to a ping, which may not come because the scheduler is frozen.

The patience is for connections that carry files: an answer queues behind what is in the buffers of a slow
link (128 KiB for each stream, 4 s at 256 kbit/s), and who takes that for silence never gets a file through.
"""


def open_channel(address: str, ping_seconds: int) -> grpc.aio.Channel:
    """A channel with a connection of its own; ended when a ping is not answered within `ping_seconds`."""
    options: list[tuple[str, int | str]] = [*_OPTIONS, ("grpc.http2.ping_timeout_ms", ping_seconds * 1000)]
    if address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
        options.append(("grpc.enable_http_proxy", 0))  # this machine is not behind its own proxy
    return grpc.aio.insecure_channel(address, options=options)


def mesh_error(error: grpc.aio.AioRpcError) -> MeshError:
    """What the scheduler said; the code's name is the reason where only the transport spoke."""
    try:
        # AioRpcError has what from_call asks for, though it is no grpc.Call.
        status = rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:
        status = None  # code or details differ from the attached status: a proxy rewrote one of them
    if status is not None and status.details:
        return errors.error_of(status)
    return MeshError(error.code(), error.code().name, error.details() or error.code().name)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise a MeshError for whatever a call inside raises; a cancellation of the task passes."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # grpc.aio raises this when the server ends a stream with CANCELLED, as a stopping one does.
        raise _unavailable("the scheduler cancelled the call") from None
    except TimeoutError:
        raise _unavailable("the scheduler did not answer in time") from None
    except asyncio.InvalidStateError:
        raise _unavailable("the call had ended already") from None
    except grpc.aio.AioRpcError as error:
        raise mesh_error(error) from error


def _unavailable(message: str) -> MeshError:
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, message)


class Backoff:
    """Waits between tries: doubling, with full jitter."""

    def __init__(self, first: float = FIRST_DELAY, longest: float = LONGEST_DELAY) -> None:
        """Seconds of the first and of the longest wait."""
        self._first, self._longest = first, longest
        self._delay = first

    def reset(self) -> None:
        """Something was answered: begin again with short waits."""
        self._delay = self._first

    def next(self) -> float:
        """Seconds to wait now."""
        delay = random.uniform(self._delay / 10, self._delay)  # noqa: S311 - jitter, no secret
        self._delay = min(self._delay * 2, self._longest)
        return delay

    async def wait(self, error: MeshError | None = None) -> None:
        """Wait before the next try, as long as the scheduler asks for at least."""
        delay = self.next()
        if error is not None and error.retry_delay is not None:
            delay += error.retry_delay.total_seconds()
        await asyncio.sleep(delay)


class Pulse:
    """Lets tasks wait until something has changed."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def beat(self) -> None:
        """Wake everybody who waits."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Return at the next beat."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
