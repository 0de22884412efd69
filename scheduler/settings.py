"""The scheduler's configuration: flags, else environment variables, else defaults."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that can be set. A wrong value stops the start."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore")

    host: str = Field("127.0.0.1", validation_alias=AliasChoices("host", "VISIONMESH_HOST"))
    """Address to listen on; only loopback while nobody logs in."""

    port: int = Field(50051, ge=0, le=65535, validation_alias=AliasChoices("port", "VISIONMESH_PORT"))
    """Port to listen on; 0 takes a free one."""

    data_dir: Path = Field(
        Path("~/.visionmesh"), validation_alias=AliasChoices("data_dir", "VISIONMESH_DATA_DIR")
    )
    """Folder of the database and the objects, unless those are set by themselves."""

    database_url: str = Field("", validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    """sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/DATABASE. Default: an SQLite file in data_dir."""

    datasets_url: str = Field("", validation_alias=AliasChoices("datasets_url", "DATASETS_URL"))
    """Store of datasets and uploads. Default: a folder in data_dir."""

    artifacts_url: str = Field("", validation_alias=AliasChoices("artifacts_url", "ARTIFACTS_URL"))
    """Store of checkpoints and results. Default: a folder in data_dir."""

    lease_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, validation_alias=AliasChoices("lease_seconds", "LEASE_SECONDS")
    )
    """Silence after which a runner's attempts are lost."""

    heartbeat_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        5.0, validation_alias=AliasChoices("heartbeat_seconds", "HEARTBEAT_SECONDS")
    )
    """Time from one heartbeat of a runner to the next."""

    assignment_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        10.0, validation_alias=AliasChoices("assignment_seconds", "ASSIGNMENT_SECONDS")
    )
    """Time that a runner has to answer an assignment."""

    reserve_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        60.0, validation_alias=AliasChoices("reserve_seconds", "RESERVE_SECONDS")
    )
    """Wait after which a job that fits no runner at present gets one reserved."""

    bookmark_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        5.0, validation_alias=AliasChoices("bookmark_seconds", "BOOKMARK_SECONDS")
    )
    """Time between bookmarks on an idle watch."""

    stalled_watcher_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        30.0, validation_alias=AliasChoices("stalled_watcher_seconds", "STALLED_WATCHER_SECONDS")
    )
    """Time after which a watcher that does not read is cut."""

    max_connection_age_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        3600.0, validation_alias=AliasChoices("max_connection_age_seconds", "MAX_CONNECTION_AGE_SECONDS")
    )
    """Age at which a connection is ended, so that it goes to another replica; 0 never ends one."""

    max_connection_grace_seconds: Annotated[float, Field(gt=0, le=86400)] = Field(
        3600.0, validation_alias=AliasChoices("max_connection_grace_seconds", "MAX_CONNECTION_GRACE_SECONDS")
    )
    """Time that calls have to finish on a connection which has reached its age."""

    max_upload_bytes: Annotated[int, Field(gt=0)] = Field(
        50 * 2**30, validation_alias=AliasChoices("max_upload_bytes", "MAX_UPLOAD_BYTES")
    )
    """Largest file that is taken as an upload."""

    max_archive_files: Annotated[int, Field(gt=0)] = Field(
        100_000, validation_alias=AliasChoices("max_archive_files", "MAX_ARCHIVE_FILES")
    )
    """Most files that an uploaded archive may hold."""

    max_archive_bytes: Annotated[int, Field(gt=0)] = Field(
        50 * 2**30, validation_alias=AliasChoices("max_archive_bytes", "MAX_ARCHIVE_BYTES")
    )
    """Most bytes that an uploaded archive may unpack to."""

    media_store_url: str = Field("", validation_alias=AliasChoices("media_store_url", "MEDIA_STORE_URL"))
    """http://HOST or https://HOST of the external media store. Default: none, and its images are refused."""

    media_store_path: str = Field(
        "/media/{id}", validation_alias=AliasChoices("media_store_path", "MEDIA_STORE_PATH")
    )
    """Where an image is below that URL; {id} is its escaped id."""

    media_store_token: SecretStr = Field(
        SecretStr(""), validation_alias=AliasChoices("media_store_token", "MEDIA_STORE_TOKEN")
    )
    """Sent to the media store as bearer token. Default: none."""

    media_store_max_bytes: Annotated[int, Field(gt=0)] = Field(
        100 * 2**20, validation_alias=AliasChoices("media_store_max_bytes", "MEDIA_STORE_MAX_BYTES")
    )
    """Largest image that is taken from the media store."""

    media_store_timeout_seconds: Annotated[float, Field(gt=0, le=50)] = Field(
        40.0, validation_alias=AliasChoices("media_store_timeout_seconds", "MEDIA_STORE_TIMEOUT_SECONDS")
    )
    """Time for one image, all tries included; runners wait a minute for it."""

    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        validation_alias=AliasChoices("log_level", "LOG_LEVEL"),
    )
    """DEBUG, INFO, WARNING or ERROR."""

    @property
    def lease(self) -> timedelta:
        """Silence after which a runner's attempts are lost."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return self.data_dir.expanduser().resolve()

    def resolved_database_url(self) -> str:
        """Where the database is."""
        return self.database_url or f"sqlite:///{self.folder / 'visionmesh.db'}"

    def resolved_datasets_url(self) -> str:
        """Where datasets and uploads are."""
        return self.datasets_url or (self.folder / "datasets").as_uri()

    def resolved_artifacts_url(self) -> str:
        """Where checkpoints and results are."""
        return self.artifacts_url or (self.folder / "artifacts").as_uri()


class BadSettings(Exception):
    """A setting is wrong; the message names it, its value and the fix."""


def read(**flags: object) -> Settings:
    """Settings from the flags that are given, the environment and the defaults. Raises BadSettings."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise BadSettings("\n".join(lines)) from None
    if settings.host not in {"127.0.0.1", "::1", "localhost"}:
        raise BadSettings(
            f"host = {settings.host!r}: nobody logs in yet, so only 127.0.0.1, ::1 or localhost may be "
            "listened on. Reach it from elsewhere through an SSH tunnel."
        )
    return settings
