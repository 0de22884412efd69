"""The agent's configuration: flags, else environment variables, else defaults."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, FilePath, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class AgentSettings(BaseSettings):
    """Everything that can be set. A wrong value stops the start."""

    model_config = SettingsConfigDict(env_prefix="VISIONMESH_", populate_by_name=True, extra="ignore")

    scheduler: str = Field("127.0.0.1:50051", min_length=1)
    """Address of the scheduler, host:port or any that gRPC resolves (VISIONMESH_SCHEDULER)."""

    framework: str = Field("ultralytics", min_length=1)
    """Framework whose jobs it runs, or module:Class of one that is not installed (VISIONMESH_FRAMEWORK)."""

    runner_id: str = Field("", pattern="^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    """The {runner} of runners/{runner}; default: host name and framework (VISIONMESH_RUNNER_ID)."""

    slots: int = Field(1, ge=1, le=1024)
    """Jobs at a time (VISIONMESH_SLOTS)."""

    labels: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Labels that jobs select by (VISIONMESH_LABELS, as zone=a,gpu=h200)."""

    work_dir: Path | None = None
    """Folder for inputs and outputs; default: below the user's cache folder (VISIONMESH_WORK_DIR)."""

    once: bool = False
    """Take one job, then end (VISIONMESH_ONCE)."""

    zygote: bool = True
    """Fork job processes from one that has imported the framework (VISIONMESH_ZYGOTE)."""

    pretrained: bool = False
    """Fetch what the makers of a model have published, for jobs that need it (VISIONMESH_PRETRAINED). Off by
    default: a runner that nobody has allowed to stays out of the Internet."""

    weights_mirror: str = Field("", pattern="^((https?|file)://.+)?$")
    """Where to fetch that instead of at the makers' address: http, https or file
    (VISIONMESH_WEIGHTS_MIRROR)."""

    weights_digests: FilePath | None = None
    """List as sha256sum writes it: fetch nothing that is not on it (VISIONMESH_WEIGHTS_DIGESTS)."""

    drain_grace_seconds: float = Field(10.0, ge=0, le=3600)
    """Time that job processes have to stop when the agent is stopped (VISIONMESH_DRAIN_GRACE_SECONDS)."""

    journal_mib: int = Field(256, ge=64, le=1024 * 1024)
    """Most disk, in MiB, for what an attempt has not yet delivered; from there on the job process waits
    (VISIONMESH_JOURNAL_MIB)."""

    dataset_cache_gib: float = Field(100, ge=0, le=1e6)
    """Disk, in GiB, for datasets that no attempt uses but the next one may; those unused for the longest go
    first (VISIONMESH_DATASET_CACHE_GIB)."""

    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        validation_alias=AliasChoices("log_level", "LOG_LEVEL"),
    )
    """DEBUG, INFO, WARNING or ERROR."""

    log_format: str = Field(
        "console", pattern="^(console|json)$", validation_alias=AliasChoices("log_format", "LOG_FORMAT")
    )
    """console or json."""

    @field_validator("labels", mode="before")
    @classmethod
    def _read_labels(cls, value: object) -> object:
        """From k=v pairs, separated by commas or as a list."""
        if isinstance(value, str):
            value = [part for part in value.split(",") if part.strip()]
        if not isinstance(value, list):
            return value
        pairs = [str(part).partition("=") for part in value]
        if any(not sign or not key.strip() for key, sign, _ in pairs):
            raise ValueError("labels are written key=value, separated by commas")
        return {key.strip(): text.strip() for key, _, text in pairs}

    @model_validator(mode="after")
    def _name(self) -> "AgentSettings":
        if not self.runner_id:
            self.runner_id = default_runner_id(socket.gethostname(), self.framework)
        return self

    @property
    def dataset_cache_bytes(self) -> int:
        """`dataset_cache_gib` in bytes."""
        return int(self.dataset_cache_gib * 2**30)

    @property
    def folder(self) -> Path:
        """Where inputs and outputs lie, absolute."""
        if self.work_dir is not None:
            return self.work_dir.expanduser().resolve()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        return (cache / "visionmesh" / self.runner_id).resolve()


class BadSettings(Exception):
    """A setting is wrong; the message names it, its value and the fix."""


def read(flags: Mapping[str, Any]) -> AgentSettings:
    """Settings from the flags that are given (not None), the environment and the defaults.

    Raises BadSettings.
    """
    try:
        return AgentSettings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise BadSettings("\n".join(_lines(error.errors()))) from None


def _lines(errors: Sequence[Any]) -> list[str]:
    return [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in errors]


def default_runner_id(hostname: str, framework: str) -> str:
    """Host name and framework in the letters that a runner's id may have."""
    host = re.sub("[^a-z0-9]+", "-", hostname.split(".")[0].lower()).strip("-") or "runner"
    name = re.sub("[^a-z0-9]+", "-", framework.lower()).strip("-")
    return f"{host[: 62 - len(name[:30])]}-{name[:30]}".strip("-")
