"""`python -m scheduler`: run one scheduler until SIGINT or SIGTERM."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

import structlog

from scheduler import settings as configuration
from scheduler.server import serve
from scheduler.settings import BadSettings, Settings
from scheduler.store.migrate import NewerDatabase

log = structlog.get_logger("scheduler")


def main() -> int:
    """Read flags and environment, then serve; the exit code."""
    flags = _flags()
    ready_file = flags.pop("ready_file")
    try:
        settings = configuration.read(**flags)
    except BadSettings as bad:
        print(f"scheduler: a setting is wrong.\n{bad}", file=sys.stderr)
        return 2
    _log_to_stderr(settings.log_level)
    try:
        asyncio.run(_run(settings, ready_file))
    except (OSError, NewerDatabase) as error:
        print(f"scheduler: {error}", file=sys.stderr)
        return 1
    return 0


def _flags() -> dict[str, object]:
    parser = argparse.ArgumentParser(prog="python -m scheduler", description=__doc__)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default 50051)")
    parser.add_argument("--data-dir", help="folder of database and objects (default ~/.visionmesh)")
    parser.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument("--ready-file", type=Path, help="write address and pid here, as JSON, when serving")
    return vars(parser.parse_args())


async def _run(settings: Settings, ready_file: object) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings) as running:
        log.info("serving", address=running.address, data=str(settings.folder))
        if isinstance(ready_file, Path):
            _announce(ready_file, running.address)
        await stop.wait()
        log.info("stopping")


def _announce(path: Path, address: str) -> None:
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps({"address": address, "pid": os.getpid()}))
    scratch.replace(path)


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
