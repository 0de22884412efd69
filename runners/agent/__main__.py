"""`python -m runners.agent`: run a runner's agent."""

import argparse
import asyncio
import logging
import sys

import structlog

from runners.agent import settings
from runners.agent.agent import EXIT_USAGE, serve
from runners.agent.settings import AgentSettings, BadSettings


def main(arguments: list[str] | None = None) -> int:
    """Read the flags and serve; the exit code."""
    try:
        chosen = settings.read(vars(_parser().parse_args(arguments)))
    except BadSettings as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    configure_logs(chosen)
    return asyncio.run(serve(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.agent",
        description="Takes jobs of one framework from a VisionMesh scheduler and runs them on this machine.",
        epilog="Each flag has an environment variable, such as VISIONMESH_SCHEDULER for --scheduler.",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="where the scheduler listens (127.0.0.1:50051)"
    )
    parser.add_argument("--framework", help="framework to run jobs of (ultralytics)")
    parser.add_argument("--runner-id", metavar="ID", help="name of this runner (host name and framework)")
    parser.add_argument("--slots", metavar="N", help="jobs at a time (1)")
    parser.add_argument(
        "--labels", metavar="K=V", action="append", help="label that jobs select by; repeatable"
    )
    parser.add_argument("--work-dir", metavar="DIR", help="folder for inputs and outputs")
    parser.add_argument("--once", action="store_true", default=None, help="take one job, then end")
    parser.add_argument(
        "--zygote", action=argparse.BooleanOptionalAction, default=None, help="fork job processes (yes)"
    )
    parser.add_argument(
        "--pretrained",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fetch published weights for jobs that need them (no)",
    )
    parser.add_argument("--weights-mirror", metavar="URL", help="where to fetch those (the makers' address)")
    parser.add_argument("--weights-digests", metavar="FILE", help="the only files to fetch, with SHA-256")
    parser.add_argument(
        "--drain-grace-seconds", metavar="S", help="time jobs have when this agent stops (10)"
    )
    parser.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR (INFO)")
    parser.add_argument("--log-format", help="console or json (console)")
    return parser


def configure_logs(chosen: AgentSettings) -> None:
    """Log to standard error, for people or as JSON lines."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if chosen.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    as_json = [structlog.processors.dict_tracebacks] if chosen.log_format == "json" else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *as_json,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[chosen.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
