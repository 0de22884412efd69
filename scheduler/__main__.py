"""`python -m scheduler`: run one scheduler until SIGINT or SIGTERM."""

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import structlog

from scheduler import settings as configuration
from scheduler.refusal import CannotStart, Refusal
from scheduler.server import Running, serve
from scheduler.settings import BadSettings, Settings

EXIT_REFUSED = 2

COLLECT_EVERY = 10_000
"""New objects from one garbage collection to the next. With Python's 700, every write to a watcher costs
two thirds more: a thousand of them hold many objects, and few are garbage."""

Tell: TypeAlias = Callable[[dict[str, object]], None]

log = structlog.get_logger("scheduler")


def main() -> int:
    """Read flags and environment, then serve; the exit code."""
    gc.set_threshold(COLLECT_EVERY)
    flags = _flags()
    tell = _teller(flags.pop("ready_fd"))
    try:
        asyncio.run(_run(_settings(flags), tell))
    except CannotStart as refused:
        print(f"scheduler: {refused} [{refused.reason}]", file=sys.stderr)
        tell({"reason": refused.reason, "message": str(refused)})
        return EXIT_REFUSED
    return 0


def _flags() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m scheduler",
        description=__doc__,
        epilog="Exit codes: 0 stopped, 2 refused to start; the last line says why.",
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default 50051)")
    parser.add_argument("--data-dir", help="folder of database and objects (default ~/.visionmesh)")
    parser.add_argument("--datasets-url", metavar="URL", help="store of datasets: s3://…, or a folder")
    parser.add_argument("--artifacts-url", metavar="URL", help="store of checkpoints and results, likewise")
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
        raise CannotStart(Refusal.BAD_SETTING, f"A setting is wrong. {bad}") from bad
    _log_to_stderr(settings.log_level)
    return settings


async def _run(settings: Settings, tell: Tell) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings) as running:
        log.info("serving", address=running.address, data=str(settings.folder))
        tell(_announcement(running))
        await _until(stop, running)
        log.info("stopping")


async def _until(stop: asyncio.Event, running: Running) -> None:
    """Wait for the word to stop. Raises what a part of the scheduler ended with: better down than deaf."""
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({stopping, *running.background}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        stopping.cancel()


def _announcement(running: Running) -> dict[str, object]:
    told: dict[str, object] = {"address": running.address, "pid": os.getpid()}
    if running.upgrade is not None:
        done = running.upgrade
        told["upgrade"] = {"before": done.before, "after": done.after, "backup": str(done.backup or "")}
    return told


def _teller(ready_fd: int | None) -> Tell:
    def tell(message: dict[str, object]) -> None:
        if ready_fd is not None:
            with open(ready_fd, "w") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(json.dumps(message) + "\n")

    return tell


def _log_to_stderr(level: str) -> None:
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
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
