"""Where S3 is and who asks it, from the environment.

Credentials are never shown: not in a repr, not in an error.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DEFAULT_REGION = "us-east-1"
"""Signed with where an endpoint is named and no region; servers other than Amazon's do not care."""

_MAX_TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class S3Settings:
    """One S3, and one who uses it."""

    endpoint: str = ""
    """http(s)://HOST[:PORT] (STORAGE_ENDPOINT); empty: Amazon's own."""

    region: str = ""
    """Region of the buckets (STORAGE_REGION); empty: what the AWS configuration says, else us-east-1."""

    access_key: str = field(default="", repr=False)
    """STORAGE_ACCESS_KEY; empty: what the AWS credential chain finds."""

    secret_key: str = field(default="", repr=False)
    """STORAGE_SECRET_KEY."""

    timeout_seconds: float = 60.0
    """Longest silence of the server before a request is tried again (STORAGE_TIMEOUT_SECONDS)."""


def read_s3_settings(owner: str = "", environ: Mapping[str, str] = os.environ) -> S3Settings:
    """What the variables STORAGE_* say; {owner}_STORAGE_* come first, such as DATASETS_STORAGE_ENDPOINT.

    Raises ValueError, which names the variable.
    """
    found = {name: _value(owner, name, environ) for name in _FIELDS}
    if bool(found["ACCESS_KEY"][1]) != bool(found["SECRET_KEY"][1]):
        here, there = ("ACCESS_KEY", "SECRET_KEY") if found["ACCESS_KEY"][1] else ("SECRET_KEY", "ACCESS_KEY")
        raise ValueError(f"{found[here][0]} is set and {found[there][0]} is not: set both, or neither")
    return S3Settings(
        endpoint=_endpoint(*found["ENDPOINT"]),
        region=found["REGION"][1],
        access_key=found["ACCESS_KEY"][1],
        secret_key=found["SECRET_KEY"][1],
        timeout_seconds=_seconds(*found["TIMEOUT_SECONDS"]),
    )


_FIELDS = ("ENDPOINT", "REGION", "ACCESS_KEY", "SECRET_KEY", "TIMEOUT_SECONDS")


def _value(owner: str, name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts, and its value."""
    general = f"STORAGE_{name}"
    own = f"{owner}_{general}" if owner else general
    variable = own if environ.get(own) else general
    return variable, environ.get(variable, "").strip()


def _endpoint(variable: str, value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query):
        raise ValueError(f"{variable} = {value!r} is no http(s)://HOST[:PORT]: give the server's address")
    return value.rstrip("/")


def _seconds(variable: str, value: str) -> float:
    try:
        seconds = float(value or S3Settings.timeout_seconds)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        most = f"{_MAX_TIMEOUT_SECONDS:.0f}"
        raise ValueError(f"{variable} = {value!r}: give seconds, above 0 and at most {most}")
    return seconds
