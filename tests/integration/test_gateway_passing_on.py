"""What goes on to the scheduler, and what does not: headers, deadlines, cancellation, patience."""

import asyncio

import httpx
import scheduler_double
from live_gateway import before
from runner_double import PATIENCE
from scheduler_double import MESSAGE_BYTES

Web = httpx.AsyncClient


async def begun(web: Web, head: str) -> asyncio.StreamWriter:
    """A request that is sent, and whose answer nobody reads."""
    _, writer = await asyncio.open_connection(web.base_url.host, web.base_url.port, limit=1024)
    writer.write(f"{head} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return writer


async def test_headers_and_deadline_go_on() -> None:
    async with scheduler_double.serving() as (address, double), before(address) as web:
        headers = {
            "Authorization": "Bearer x",
            "Traceparent": "00-1-2-01",
            "Cookie": "no",
            "Grpc-Timeout": "200m",
        }
        answer = await web.get("/v1/jobs/a", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (504, 4)
        told = double.metadata
        assert (told["authorization"], told["traceparent"]) == ("Bearer x", "00-1-2-01")
        assert "cookie" not in told
        async with asyncio.timeout(PATIENCE):
            await double.cancelled.wait()


async def test_without_a_deadline_the_gateways_own_is_taken() -> None:
    async with scheduler_double.serving() as (address, _), before(address, timeout_seconds=0.2) as web:
        assert (await web.get("/v1/jobs/a")).status_code == 504


async def test_a_client_that_goes_away_cancels_its_call() -> None:
    async with scheduler_double.serving() as (address, double), before(address) as web:
        writer = await begun(web, "GET /v1/jobs/a")
        async with asyncio.timeout(PATIENCE):
            await double.asked.wait()
            assert not double.cancelled.is_set()
            writer.close()
            await double.cancelled.wait()


async def test_the_delay_before_another_try_is_a_header() -> None:
    async with scheduler_double.serving() as (address, _), before(address) as web:
        answer = await web.get("/v1/jobs")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
        assert answer.json()["details"][1] == {
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": "2.400s",
        }


async def test_what_a_client_does_not_read_is_not_fetched() -> None:
    async with scheduler_double.serving() as (address, double), before(address) as web:
        writer = await begun(web, "GET /v1/jobs:watch")
        before_it, same = -1, 0
        async with asyncio.timeout(PATIENCE):
            while same < 20:
                same = same + 1 if double.sent == before_it else 0
                before_it = double.sent
                await asyncio.sleep(0.05)
        print(f"sent to nobody: {double.sent * MESSAGE_BYTES / 2**20:.0f} MiB, and no more")
        assert 0 < double.sent * MESSAGE_BYTES < 40 * 2**20
        writer.close()
        async with asyncio.timeout(PATIENCE):
            await double.cancelled.wait()
