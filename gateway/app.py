"""The gateway as an ASGI application: finds the route of a request and lets its kind of endpoint answer."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import errors
from gateway.calls import Calls
from gateway.context import Context, Endpoint
from gateway.downloads import download
from gateway.health import health_routes
from gateway.openapi.page import docs_routes
from gateway.origins import OriginGuard
from gateway.presence import ClientGone
from gateway.routes import CONTRACTS, Route, match, routes_of
from gateway.settings import Settings
from gateway.streams import stream
from gateway.unary import answer
from gateway.uploads import upload
from visionmesh.client._channel import channel_options
from visionmesh.errors import MeshError, Reason

log = structlog.get_logger(__name__)


class Gateway:
    """Answers every request that has the path of an RPC."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._routes = routes_of(CONTRACTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._response(Request(scope, receive))
        except (ClientGone, ClientDisconnect):
            return
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        try:
            return await self._dispatched(request)
        except MeshError as error:
            return errors.refused(error)
        except grpc.RpcError as error:
            return errors.response_of(errors.status_of_call(error, self._context.calls.address))
        except (ClientGone, ClientDisconnect):
            raise
        except Exception:
            return errors.refused(_internal(request.url.path))

    async def _dispatched(self, request: Request) -> Response:
        path = request.scope["path"]
        try:
            found = match(self._routes, request.scope["raw_path"].decode("ascii"))
        except UnicodeDecodeError:
            raise errors.not_served(path) from None
        if not found.routes:
            raise errors.not_served(path)
        verb = request.method
        wanted = found.of("GET" if verb == "HEAD" and verb in found.allowed else verb)
        if wanted is None:
            error = errors.wrong_verb(verb, path, found.allowed)
            return errors.refused(error, 405, {"Allow": found.allowed})
        route, fields = wanted
        return await endpoint_of(route)(self._context, route, fields, request)


def endpoint_of(route: Route) -> Endpoint:
    """What answers calls of `route`."""
    if route.is_upload:
        return upload
    if route.is_download:
        return download
    return stream if route.is_stream else answer


def _internal(path: str) -> MeshError:
    incident = secrets.token_hex(6)
    log.exception("request failed", path=path, incident=incident)
    message = (
        "The gateway failed on this request, and that is no fault of the request. Try again; if it fails "
        f"again, whoever runs the gateway finds out why in its log, under {incident}."
    )
    return MeshError(grpc.StatusCode.INTERNAL, Reason.INTERNAL, message, {"incident": incident})


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Starlette]:
    """The application, with its channel to the scheduler open while the context lasts."""
    options = channel_options(settings.scheduler)
    async with AsyncExitStack() as stack:
        uploads = stack.enter_context(grpc.insecure_channel(settings.scheduler, options=options))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(settings.scheduler, options=options)
        )
        calls = Calls(channel, uploads, settings.scheduler, settings.timeout_seconds)
        app = Starlette(
            routes=[*health_routes(channel, settings.scheduler), *docs_routes()],
            middleware=_middleware(settings),
            exception_handlers={HTTPException: _refused_by_starlette},
        )
        app.router.redirect_slashes = False
        app.state.stopping = asyncio.Event()
        app.router.default = Gateway(Context(settings, calls, app.state.stopping))
        yield app


def _middleware(settings: Settings) -> list[Middleware]:
    guard = Middleware(OriginGuard, origins=settings.cors_origins)
    if not settings.cors_origins:
        return [guard]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("*",),
        expose_headers=("Content-Disposition", "Content-Range", "ETag", "Retry-After"),
    )
    return [cors, guard]


async def _refused_by_starlette(request: Request, error: Exception) -> Response:
    """Paths of the gateway's own, such as /healthz, asked with another method."""
    headers = dict(getattr(error, "headers", None) or {})
    wrong = errors.wrong_verb(request.method, request.url.path, headers.get("Allow", "GET"))
    return errors.refused(wrong, 405, headers)
