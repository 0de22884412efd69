"""The media store as the scheduler asks it: real images over real HTTP, and a store that misbehaves."""

import asyncio
import hashlib
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from media_server import (
    TOKEN,
    MediaServer,
    endless,
    media_server,
    picture,
    sends,
    silent,
    trickling,
    truncated,
)

from scheduler import doctor, media_store, settings
from scheduler.media_store import BadId, ImageRefused, MediaStore, address, id_of, uri_of
from visionmesh.doctor import Verdict
from visionmesh.errors import MeshError, error_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[MediaServer]:
    async with media_server() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def store(server: MediaServer) -> AsyncIterator[MediaStore]:
    async with opened(server) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other sooner than in earnest."""
    monkeypatch.setattr(media_store, "DELAYS", (0.02, 0.05, 0.1))


def opened(server: MediaServer, **options: object):
    made = MediaStore(address(server.url, "/media/{id}"), token=TOKEN, **options)  # type: ignore[arg-type]
    return made.open()


async def refusal(store: MediaStore, media_id: str) -> tuple[str, str, bool]:
    with pytest.raises(ImageRefused) as refused:
        await store.fetch(media_id)
    error = error_of(refused.value.status)
    print(f"{media_id}: {error.code.name} {error.reason}: {error.message}")
    return error.code.name, str(error.reason), refused.value.gone


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
async def test_an_image_comes_whole_and_is_known_by_its_bytes(server, store, kind) -> None:
    server.images["7"] = picture("blue", kind, 400)
    found = await store.fetch("7")
    with found.file:
        data = b"".join([chunk async for chunk in found.chunks()])
    assert data == server.images["7"]
    assert (found.size_bytes, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert found.content_type == f"image/{kind.lower()}"


@pytest.mark.parametrize("media_id", ["a.b-c_d~e", "x:y@z", "with space", "ünï-côde", "+&=;,!$'()*", "~"])
async def test_an_id_is_one_part_of_the_path_whatever_it_holds(server, store, media_id) -> None:
    server.images[media_id] = picture()
    found = await store.fetch(media_id)
    found.file.close()
    assert list(server.asked.values()) == [1]
    assert next(iter(server.asked)).count("/") == 2
    assert id_of(uri_of(media_id)) == media_id


@pytest.mark.parametrize(
    "media_id",
    ["..", ".", "../admin", "a/../b", "a/b", "//evil.example/x", "http://evil.example/x", "a?b=c", "a#b",
     "a\0b", "a\\b", "%2e%2e", "a\r\nHost: evil", "", "\ud800"],
)  # fmt: skip
async def test_an_id_that_could_lead_elsewhere_is_refused_unasked(server, store, media_id) -> None:
    with pytest.raises(BadId):
        uri_of(media_id)
    with pytest.raises(BadId):
        await store.fetch(media_id)
    assert not server.asked


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(server, store, code) -> None:
    async with media_server() as canary:
        server.images["away"] = canary.images["x"] = picture()
        server.fails("away", code, Location=f"{canary.url}/media/x")
        assert await refusal(store, "away") == ("FAILED_PRECONDITION", "BAD_URI", False)
        assert not canary.asked


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (sends(b"<html>please log in</html>"), ("INVALID_ARGUMENT", "IMAGE_UNREADABLE", False)),
        (sends(b"\x80\x04pickle" * 10), ("INVALID_ARGUMENT", "IMAGE_UNREADABLE", False)),
        (sends(b""), ("INVALID_ARGUMENT", "IMAGE_UNREADABLE", False)),
        (sends(picture(size=600) + b"\0" * 300_000), ("INVALID_ARGUMENT", "IMAGE_UNREADABLE", False)),
        (endless, ("INVALID_ARGUMENT", "IMAGE_UNREADABLE", False)),
        (truncated, ("DATA_LOSS", "DATA_LOSS", False)),
    ],
    ids=["a page", "a pickle", "nothing", "too large", "endless", "truncated"],
)
async def test_what_is_no_whole_image_is_refused_for_good(server, answer, expected) -> None:
    server.answers["bad"] = answer
    async with opened(server, max_bytes=200_000) as store:
        assert await refusal(store, "bad") == expected


async def test_what_is_not_there_is_gone_and_what_is_forbidden_is_told(server, store) -> None:
    server.fails("closed", 403)
    assert await refusal(store, "absent") == ("NOT_FOUND", "NOT_FOUND", True)
    assert await refusal(store, "closed") == ("PERMISSION_DENIED", "PERMISSION_DENIED", False)
    assert set(server.asked.values()) == {1}, "asking again is no use"


@pytest.mark.parametrize("code", [500, 502, 503, 429])
async def test_a_store_that_fails_for_a_moment_is_asked_again(server, store, code) -> None:
    server.images["7"] = picture()
    server.fails("7", code, times=2)
    (await store.fetch("7")).file.close()
    assert server.asked["/media/7"] == 3


async def test_a_store_that_is_away_costs_no_image(server, store) -> None:
    server.fails("7", 503)
    server.fails("8", 401)
    for media_id in ("7", "8"):
        with pytest.raises(MeshError, match="MEDIA_STORE_URL") as away:
            await store.fetch(media_id)
        assert (away.value.code.name, TOKEN in str(away.value)) == ("UNAVAILABLE", False)
        assert server.asked[f"/media/{media_id}"] == 4, "tries are bounded"
    url = server.url.replace("127.0.0.1", "127.0.0.2")  # nobody listens there
    async with MediaStore(address(url, "/media/{id}")).open() as nobody:
        with pytest.raises(MeshError, match="ClientConnectorError") as away:
            await nobody.fetch("7")
        assert away.value.code.name == "UNAVAILABLE"


async def test_a_store_says_how_long_to_wait(server, store) -> None:
    server.images["7"] = picture()
    server.fails("7", 503, times=1, **{"Retry-After": "1"})
    began = time.monotonic()
    (await store.fetch("7")).file.close()
    assert time.monotonic() - began >= 1
    server.fails("8", 429, **{"Retry-After": "3600"})
    with pytest.raises(MeshError) as away:
        await store.fetch("8")
    assert away.value.retry_delay is not None
    assert away.value.retry_delay.total_seconds() == 60
    assert server.asked["/media/8"] == 1


async def test_a_store_that_never_answers_is_away_and_one_that_never_ends_is_not(server) -> None:
    server.answers |= {"silent": silent, "trickling": trickling}
    async with opened(server, timeout_seconds=1) as store:
        with pytest.raises(MeshError) as away:
            await store.fetch("silent")
        assert away.value.code.name == "UNAVAILABLE"
        assert await refusal(store, "trickling") == ("DATA_LOSS", "DATA_LOSS", False)


async def test_the_token_goes_to_the_store_and_cookies_and_proxies_do_not(server, store, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.3:1")
    server.images |= {"1": picture(), "2": picture()}
    server.answers["1"] = _with_cookie(server.images["1"])
    for media_id in ("1", "2"):
        (await store.fetch(media_id)).file.close()
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {TOKEN}"}
    assert not any("Cookie" in headers for headers in server.headers)


def _with_cookie(data: bytes):
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=data)
        response.set_cookie("session", "1")
        return response

    return answer


async def test_many_images_are_fetched_side_by_side_but_not_all_at_once(server, store) -> None:
    server.images |= {str(number): picture() for number in range(60)}
    together = asyncio.Event()

    def slowly(media_id: str):
        async def answer(request):
            if server.most_at_once >= 16:
                together.set()
            async with asyncio.timeout(20):
                await together.wait()
            return await sends(server.images[media_id])(request)

        return answer

    server.answers |= {media_id: slowly(media_id) for media_id in server.images}
    for found in await asyncio.gather(*(store.fetch(media_id) for media_id in server.images)):
        found.file.close()
    assert server.most_at_once == 16


async def test_memory_does_not_grow_with_an_image(server) -> None:
    head, size = picture(), 60 * 2**20

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        await response.write(head)
        for start in range(len(head), size, 2**16):
            await response.write(bytes(min(2**16, size - start)))
        return response

    server.answers["large"] = large
    async with opened(server) as store:
        tracemalloc.start()
        found = await store.fetch("large")
        with found.file:
            counted = sum([len(chunk) async for chunk in found.chunks()])
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print(f"{counted / 2**20:.0f} MiB passed through {most / 2**20:.1f} MiB of memory")
    assert counted == size
    assert most < 12 * 2**20


async def test_the_doctor_says_whether_the_store_answers(server) -> None:
    server.fails("", 404)
    assert (await doctor.media_store(settings.read(media_store_url=server.url))).verdict is Verdict.OK
    nobody = server.url.replace("127.0.0.1", "127.0.0.2")
    for url, seen in ((nobody, "cannot be used"), ("ftp://store", "MEDIA_STORE_URL")):
        found = await doctor.media_store(settings.read(media_store_url=url))
        assert (found.verdict, seen in found.seen) == (Verdict.PROBLEM, True)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("ftp://store", "/{id}"), ("store:8000", "/{id}"), ("http://", "/{id}"), ("file:///etc", "/{id}"),
        ("http://user:word@store", "/{id}"), ("http://store?x=1", "/{id}"), ("http://store#x", "/{id}"),
        ("http://sto re", "/{id}"), ("http://store", "{id}"), ("http://store", "/media"),
        ("http://store", "/{id}/{id}"), ("http://store", "/../{id}"), ("http://store", "@evil/{id}"),
    ],
)  # fmt: skip
async def test_settings_that_could_lead_elsewhere_stop_the_start(url, path) -> None:
    with pytest.raises(ValueError, match="MEDIA_STORE_"):
        address(url, path)


async def test_a_base_may_have_a_path_and_the_template_a_query() -> None:
    made = address("https://store.example:8443/v2/", "/images?id={id}&full=1").url("a&b=c d")
    assert str(made) == "https://store.example:8443/v2/images?id=a%26b%3Dc%20d&full=1"


async def test_a_token_that_is_no_header_is_refused_without_being_told() -> None:
    with pytest.raises(ValueError, match="MEDIA_STORE_TOKEN") as refused:
        MediaStore(address("http://store", "/{id}"), token="one two")
    assert "one two" not in str(refused.value)
