"""A media store on this machine: real images by id, and every way in which such a store can misbehave."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from urllib.parse import unquote

from aiohttp import web
from PIL import Image

JPEG = "JPEG"
TOKEN = "a-token-for-the-store"
_ENDLESS_PIECE = b"\xff\xd8\xff" + b"\0" * 65533

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def picture(colour: str = "red", kind: str = JPEG, size: int = 32) -> bytes:
    """A real image file."""
    file = BytesIO()
    Image.new("RGB", (size, size), colour).save(file, kind)
    return file.getvalue()


class MediaServer:
    """Images by id; counts who asks for what."""

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        """Ids that are answered in a way of their own."""
        self.asked: Counter[str] = Counter()
        """Requests by raw path, as it came over the wire."""
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.most_at_once = 0
        self._now = 0

    def fails(self, media_id: str, code: int, times: int = 10**6, **headers: str) -> None:
        """Answers `code` so many times, then with the image."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if self.asked[request.raw_path] <= times:
                return web.Response(status=code, headers=headers)
            return web.Response(body=self.images[media_id])

        self.answers[media_id] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.asked[request.raw_path] += 1
        self.headers.append(dict(request.headers))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            media_id = unquote(request.raw_path.removeprefix("/media/"))
            if media_id in self.answers:
                return await self.answers[media_id](request)
            if media_id in self.images:
                return web.Response(body=self.images[media_id])
            return web.Response(status=404)
        finally:
            self._now -= 1


async def endless(request: web.Request) -> web.StreamResponse:
    """Begins as a JPEG does, and never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(_ENDLESS_PIECE)


async def truncated(request: web.Request) -> web.StreamResponse:
    """Announces more than it sends, then hangs up."""
    data = picture()
    response = web.StreamResponse(headers={"Content-Length": str(len(data) * 2)})
    await response.prepare(request)
    await response.write(data)
    assert request.transport is not None
    request.transport.close()
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.sleep(3600)
    return web.Response()


async def trickling(request: web.Request) -> web.StreamResponse:
    """Begins as a JPEG does, and goes on byte by byte for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(picture()[:20])
    while True:
        await asyncio.sleep(0.05)
        await response.write(b"\0")


def redirect(to: str) -> Answer:
    """Sends elsewhere."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": to})

    return answer


def sends(data: bytes, content_type: str = "image/jpeg") -> Answer:
    """Says that these bytes are an image."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, content_type=content_type)

    return answer


@asynccontextmanager
async def media_server() -> AsyncIterator[MediaServer]:
    """A running one, on a free port."""
    made = MediaServer()
    application = web.Application(client_max_size=0)
    application.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
