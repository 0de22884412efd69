"""The gateway's configuration: flags, else environment variables, else defaults."""

from typing import Annotated

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from visionmesh.limits import MAX_REQUEST_BYTES

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """Everything that can be set. A wrong value stops the start."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore")

    host: str = Field("127.0.0.1", validation_alias=AliasChoices("host", "GATEWAY_HOST"))
    """Address to listen on; only loopback while nobody logs in."""

    port: int = Field(8080, ge=0, le=65535, validation_alias=AliasChoices("port", "GATEWAY_PORT"))
    """Port to listen on; 0 takes a free one."""

    scheduler: str = Field(
        "127.0.0.1:50051", validation_alias=AliasChoices("scheduler", "VISIONMESH_SCHEDULER")
    )
    """Address of the scheduler, as gRPC names it; `dns:///HOST:PORT` for several replicas."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias=AliasChoices("cors_origins", "GATEWAY_CORS_ORIGINS")
    )
    """Origins of pages that may call, such as https://app.example.org; commas between several. Default:
    only pages that the gateway itself serves."""

    timeout_seconds: Annotated[float, Field(gt=0, le=86400)] = Field(
        300.0, validation_alias=AliasChoices("timeout_seconds", "GATEWAY_TIMEOUT_SECONDS")
    )
    """Deadline of a call without Grpc-Timeout that is neither a stream nor a file."""

    max_body_bytes: Annotated[int, Field(gt=0)] = Field(
        MAX_REQUEST_BYTES, validation_alias=AliasChoices("max_body_bytes", "GATEWAY_MAX_BODY_BYTES")
    )
    """Largest JSON body. Uploads are not bodies in this sense: the scheduler limits those."""

    heartbeat_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        15.0, validation_alias=AliasChoices("heartbeat_seconds", "GATEWAY_HEARTBEAT_SECONDS")
    )
    """Silence on an event stream after which a comment is sent, so that proxies keep it open."""

    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        validation_alias=AliasChoices("log_level", "LOG_LEVEL"),
    )
    """DEBUG, INFO, WARNING or ERROR."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(filter(None, (part.strip().rstrip("/") for part in value.split(","))))
        return value


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
    if settings.host not in LOOPBACK:
        raise BadSettings(
            f"host = {settings.host!r}: nobody logs in yet, so only 127.0.0.1, ::1 or localhost may be "
            "listened on. Reach it from elsewhere through an SSH tunnel."
        )
    if "*" in settings.cors_origins:
        raise BadSettings(
            "cors_origins = '*': nobody logs in yet, so any page on the web could run jobs here. "
            "Name the origins, such as http://localhost:5173."
        )
    return settings
