"""The life of a job process: read the environment, wait for the start, run, say how it ended."""

import os
import traceback
from collections.abc import Mapping

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped, UserError, ending_of
from runners.process.hardware import hardware, package_versions
from runners.process.hyperparameters import check_hyperparameters
from runners.process.models import check_model, check_prompts
from visionmesh.v1 import progress_pb2

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CANCELLED = 3


def run(kind: str, framework: Framework, environ: Mapping[str, str] = os.environ) -> int:
    """Run a job of `kind` by what `environ` says, whatever its KIND is; the exit code."""
    return run_job(framework, {**environ, "KIND": kind})


def run_job(framework: Framework, environ: Mapping[str, str] = os.environ) -> int:
    """Run the job that `environ` describes, from the agent or by hand.

    Returns 0 when it succeeded, 1 when it failed and 3 when it was cancelled. With EVENTS_FD
    nothing is lost by the exit code: the last event says the same and why.
    """
    emitter = Emitter.open(_events_fd(environ))
    try:
        return _run_and_tell(framework, environ, emitter)
    except BrokenPipeError:
        return EXIT_FAILED  # nobody is left to tell


def _run_and_tell(framework: Framework, environ: Mapping[str, str], emitter: Emitter) -> int:
    try:
        environment = JobEnvironment.read(environ)
        commands = Commands(environment.commands_fd)
        if not commands.wait_for_start():
            return EXIT_FAILED
        _run(framework, environment, emitter, commands)
    except BrokenPipeError:
        raise
    except (Exception, Stopped) as error:
        if not isinstance(error, (UserError, Stopped)):
            emitter.log(progress_pb2.LOG_LEVEL_ERROR, "".join(traceback.format_exception(error)))
        emitter.ended(ending_of(error))
        return EXIT_CANCELLED if isinstance(error, Stopped) else EXIT_FAILED
    emitter.ended(None)
    return EXIT_OK


def _run(framework: Framework, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
    device, unusable = "", None
    try:
        device = framework.device(environment)
    except UserError as error:
        unusable = error  # told after the start, as every failure of an attempt
    emitter.started(
        progress_pb2.AttemptStarted(
            pid=os.getpid(),
            package_versions=package_versions(framework.packages),
            hardware=hardware(),
            device=device,
            seed=environment.seed,
        )
    )
    if unusable is not None:
        raise unusable
    manifest = framework.manifest()
    check_model(manifest, environment.model_name)
    check_prompts(manifest, environment.prompts)
    check_hyperparameters(manifest, environment.kind, environment.hyperparameters)
    environment.output_path.mkdir(parents=True, exist_ok=True)
    framework.run(environment, emitter, commands)


def _events_fd(environ: Mapping[str, str]) -> int | None:
    """Where to tell even that the environment is wrong."""
    text = environ.get("EVENTS_FD", "").strip()
    return int(text) if text.isdecimal() else None
