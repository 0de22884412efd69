"""`python -m gateway`: serve the mesh over HTTP until SIGINT or SIGTERM."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from typing import Any

import structlog

from gateway import settings as configuration
from gateway.server import serve
from gateway.settings import BadSettings, Settings

EXIT_REFUSED = 2

_BACKLOG = 2048
"""Connections that wait to be accepted."""

log = structlog.get_logger("gateway")


class CannotStart(Exception):
    """The gateway does not start; the message says why and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def main() -> int:
    """Read flags and environment, then serve; the exit code."""
    flags = _flags()
    ready_fd, or_any_port = flags.pop("ready_fd"), flags.pop("or_any_port")
    try:
        settings = _settings(flags)
        asyncio.run(_run(settings, _listener(settings, or_any_port), ready_fd))
    except CannotStart as refused:
        print(f"gateway: {refused} [{refused.reason}]", file=sys.stderr)
        _tell(ready_fd, {"reason": refused.reason, "message": str(refused)})
        return EXIT_REFUSED
    return 0


def _flags() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description=__doc__,
        epilog="Exit codes: 0 stopped, 2 refused to start; the last line says why.",
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default 8080)")
    parser.add_argument("--or-any-port", action="store_true", help="take a free port if that one is taken")
    parser.add_argument("--scheduler", help="address of the scheduler (default 127.0.0.1:50051)")
    parser.add_argument("--cors-origins", metavar="ORIGINS", help="origins whose pages may call, with commas")
    parser.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument(
        "--ready-fd",
        type=int,
        metavar="FD",
        help="descriptor that is told, as one line of JSON, address and pid when serving, "
        "or reason and message of a refusal to start",
    )
    return vars(parser.parse_args())


def _settings(flags: dict[str, Any]) -> Settings:
    try:
        settings = configuration.read(**flags)
    except BadSettings as bad:
        raise CannotStart("BAD_SETTING", f"A setting is wrong. {bad}") from bad
    _log_to_stderr(settings.log_level)
    return settings


async def _run(settings: Settings, listener: socket.socket, ready_fd: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings, listener) as running:
        log.info("serving", url=f"http://{running.address}", scheduler=settings.scheduler)
        _tell(ready_fd, {"address": running.address, "pid": os.getpid()})
        await stop.wait()
        log.info("stopping")


def _listener(settings: Settings, or_any_port: bool) -> socket.socket:
    """A bound socket. Raises CannotStart."""
    ports = [settings.port, *([0] if or_any_port else [])]
    for port in ports:
        listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, port))
            listener.listen(_BACKLOG)
            return listener
        except OSError as error:
            listener.close()
            refused = error
    where = f"{settings.host}:{settings.port}"
    text = f"{where} cannot be listened on: {refused.strerror}. Stop what does, or choose another --port."
    raise CannotStart("ADDRESS_IN_USE", text) from refused


def _tell(ready_fd: int | None, message: dict[str, object]) -> None:
    if ready_fd is not None:
        with open(ready_fd, "w") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(json.dumps(message) + "\n")


def _log_to_stderr(level: str) -> None:
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
