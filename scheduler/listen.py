"""Takes the port to listen on, or says who has it."""

import errno
import os
import socket
from pathlib import PurePath
from textwrap import shorten

import grpc
import psutil

from scheduler.refusal import CannotStart, Refusal

_ELSE = "choose another with --port; --port 0 takes a free one"


def bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """The port that `server` will listen on: `port`, or a free one for 0. Raises CannotStart."""
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:  # gRPC does not say why
        bound = 0
    if not bound:
        raise CannotStart(Refusal.PORT_UNAVAILABLE, why_not(host, port))
    return bound


def why_not(host: str, port: int) -> str:
    """Why `port` cannot be listened on, and what to do."""
    number = _errno_of_binding(host, port)
    if number == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken{_by(port)}. Stop that, or {_ELSE}."
    if number == errno.EACCES:
        return f"Port {port} of {host} needs the rights of an administrator: {_ELSE}."
    why = os.strerror(number) if number else "gRPC does not say why"
    return f"Port {port} of {host} cannot be listened on: {why}. Mend that, or {_ELSE}."


def _errno_of_binding(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or 0
    return 0


def _by(port: int) -> str:
    """Which process listens on `port`, where this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f" by process {connection.pid} ({_command(connection.pid)})"
    except psutil.Error:
        pass
    return ""


def _command(pid: int) -> str:
    """The command of a process, without the path of its program, shortened."""
    program, *arguments = psutil.Process(pid).cmdline() or [psutil.Process(pid).name()]
    return shorten(" ".join([PurePath(program).name, *arguments]), 90, placeholder=" …")
