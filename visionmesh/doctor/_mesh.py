"""The mesh: whether one answers, and whether its port could be had."""

import asyncio
import socket
from contextlib import closing

from visionmesh.client import AsyncClient
from visionmesh.doctor._finding import Finding, ok, problem, warning
from visionmesh.errors import MeshError
from visionmesh.v1 import runner_pb2

_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_ANSWER_SECONDS = 5.0


async def mesh(address: str) -> Finding:
    """A mesh answers at `address` and has a runner; or the port is free for one on this machine."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return problem("mesh", f"{address!r} is no address", "give it as host:port, such as 127.0.0.1:50051")
    if host in _LOOPBACK and await asyncio.to_thread(_is_free, host.strip("[]"), int(port)):
        return ok("mesh", f"none runs here, and port {port} is free for `vmesh up`")
    try:
        online = await _online(address)
    except MeshError as error:
        return _silent(host, port, error)
    return _with(address, online)


async def _online(address: str) -> list[runner_pb2.Runner]:
    async with AsyncClient(address, timeout=_ANSWER_SECONDS) as client:
        return [runner async for runner in client.list_runners() if _is_online(runner)]


def _is_online(runner: runner_pb2.Runner) -> bool:
    return runner.state == runner_pb2.RUNNER_STATE_ONLINE


def _with(address: str, online: list[runner_pb2.Runner]) -> Finding:
    if not online:
        advice = f"start a runner: python -m runners.agent --scheduler {address}"
        return warning("mesh", f"{address} answers, but has no runner online: jobs wait", advice)
    names = ", ".join(runner.name.removeprefix("runners/") for runner in online)
    return ok("mesh", f"{address} answers; online: {names}")


def _silent(host: str, port: str, error: MeshError) -> Finding:
    if host in _LOOPBACK:
        advice = f"stop what listens there (`ss -ltnp 'sport = :{port}'` tells), or use `vmesh up --port 0`"
        return problem("mesh", f"port {port} is taken by something that does not answer as a mesh", advice)
    return problem("mesh", f"{host}:{port} does not answer: {error.message}", "start it, or mend --address")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
