"""Page tokens: opaque, bound to the query that they belong to."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from visionmesh.errors import Reason, invalid

DEFAULT_PAGE_SIZE = 50
_LARGEST = 253_402_300_800_000_000  # microseconds to the year 10000; nothing else counts as far


def encode(query: str, position: Sequence[Any]) -> str:
    """A token that says where `query` goes on."""
    body = json.dumps([_digest(query), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def decode(token: str, query: str, kinds: tuple[type, ...], field: str = "page_token") -> list[Any] | None:
    """The position in a token; None for the empty one. Raises BAD_PAGE_TOKEN."""
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        position: list[Any]
        digest, *position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError):
        raise _bad(field, "it was not made by this service") from None
    if digest != _digest(query):
        raise _bad(field, "it belongs to a list with another filter or order")
    if len(position) != len(kinds) or not all(map(_plausible, position, kinds)):
        raise _bad(field, "it was not made by this service")
    return position


def _plausible(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (not isinstance(value, int) or 0 <= value < _LARGEST)


def _bad(field: str, why: str) -> Exception:
    return invalid(Reason.BAD_PAGE_TOKEN, field, f"cannot be used: {why}. Start again without it.")


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:8]
