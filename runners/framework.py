"""What a framework must offer to run jobs: one class, found by entry point.

A framework is a folder with a subclass of Framework, named under the entry point group
"visionmesh.frameworks". The agent reads its manifest without importing a heavy package; the
zygote calls `preload` once; each job process calls `run` once. docs/frameworks.md tells how to write
one, and `python -m runners.framework_kit NAME` whether it keeps the rules.
"""

from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import runner_pb2

ENTRY_POINT_GROUP = "visionmesh.frameworks"
"""Where frameworks announce themselves."""


class FrameworkNotFound(Exception):
    """No installed package offers that framework."""


class Framework(ABC):
    """One framework. Making an instance is cheap and imports nothing heavy."""

    name: str
    """As Job.framework says it."""

    packages: tuple[str, ...]
    """Distributions whose versions are recorded with each attempt."""

    repeats: bool = True
    """Whether the same seed gives the same metrics again, on a CPU."""

    @abstractmethod
    def manifest(self) -> runner_pb2.FrameworkManifest:
        """What it can do, read without importing a heavy package."""

    @abstractmethod
    def preload(self) -> None:
        """Set the environment that is read at import, then import all that any kind of job needs.

        Called by a zygote before it forks: starts no thread and touches no GPU. A job process that
        has no zygote does not call it, and `device` or `run` import what they need. A second call
        does nothing.
        """

    @abstractmethod
    def device(self, environment: JobEnvironment) -> str:
        """The device that the job will use, such as "cpu" or "cuda:0".

        Raises UserError if there is no such device.
        """

    @abstractmethod
    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Do what `environment.kind` says, to the end.

        Calls `commands.poll()` at least with every batch. Raises UserError for what the user can
        mend, lets Stopped pass after leaving what there is, and anything else for the rest.
        """

    def fetch_weights(self, model: str, folder: Path, mirror: str) -> Path:
        """Fetch what the makers of `model` have published into `folder`; a checkpoint that `run` takes.

        Called in a process of its own on runners that may fetch, for models whose ModelInfo.pretrained is
        set. Uses `runners.process.download`, with `mirror` in the place of the makers' address unless it is
        empty, and looks the file through as it would any checkpoint. A framework whose models bring their
        weights along overrides nothing and sets fetches_pretrained in its manifest itself.

        Raises UserError if there are none or the file is not to be trusted, DownloadFailed.
        """
        raise UserError(f"{self.name} fetches no published weights.", reason="PRETRAINED_UNAVAILABLE")

    @classmethod
    def can_fetch_weights(cls) -> bool:
        """Whether it overrides `fetch_weights`."""
        return cls.fetch_weights is not Framework.fetch_weights


def load(name: str) -> Framework:
    """The installed framework of that name. Raises FrameworkNotFound, listing what is installed."""
    found = {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    if name not in found:
        installed = ", ".join(sorted(found)) or "none"
        raise FrameworkNotFound(
            f"There is no framework {name!r} here; installed: {installed}. "
            f"Install the package that offers it (such as visionmesh[{name}]), or choose another."
        )
    try:
        framework = found[name].load()()
    except ImportError as error:
        raise FrameworkNotFound(f"Framework {name!r} is installed but cannot be loaded: {error}") from error
    if not isinstance(framework, Framework):
        raise FrameworkNotFound(f"{found[name].value} is not a runners.framework.Framework")
    return framework
