"""Pages of other origins do not reach the mesh through the browser of somebody who can.

Nobody logs in, so whoever reaches the gateway may do everything. It listens on the loopback interface only,
but so does every page in a browser there: a page from anywhere can send a form to 127.0.0.1, and a name that
its owner points there makes it the same origin. So a request must name a host of the loopback interface, and
an origin, where the browser says one, must be that host or be allowed by name.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

import grpc
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import errors
from gateway.settings import LOOPBACK
from visionmesh.errors import MeshError, Reason


class OriginGuard:
    """Refuses requests that a foreign page has made."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal, or let the application answer."""
        refused = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        answer = self._app if refused is None else errors.refused(refused)
        await answer(scope, receive, send)

    def _refusal(self, headers: Headers) -> MeshError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if _hostname(host) not in LOOPBACK:
            return _denied(f"This gateway is not {host!r}. Call it by 127.0.0.1 or localhost.")
        if origin is None or origin in self._origins or origin == f"http://{host}":
            return None
        text = f"Pages of {origin!r} may not call. Name that origin in GATEWAY_CORS_ORIGINS to allow it."
        return _denied(text)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _denied(text: str) -> MeshError:
    return MeshError(grpc.StatusCode.PERMISSION_DENIED, Reason.PERMISSION_DENIED, text)
