"""Every RPC by HTTP, through a real gateway before a real scheduler: JSON both ways, errors, limits."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from live_gateway import before
from refusal_world import World, fill
from runner_double import PATIENCE

from gateway.errors import HTTP_STATUS
from gateway.routes import CONTRACTS, routes_of
from visionmesh.errors import Reason
from visionmesh.v1 import dataset_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

Web = httpx.AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mesh: Any, dataset: dataset_pb2.Dataset) -> AsyncIterator[World]:
    async with fill(mesh, dataset.name) as filled:
        yield filled


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(mesh: Any) -> AsyncIterator[Web]:
    async with before(mesh.address, max_body_bytes=100_000) as client:
        yield client


TRAIN = {"framework": "nobody", "train": {"model": "yolo11n", "dataset": "datasets/shapes", "epochs": 3}}


async def created(web: Web, **fields: Any) -> str:
    answer = await web.post("/v1/jobs", json={**TRAIN, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["name"])


def streamed(answer: httpx.Response) -> list[Any]:
    return [httpx.Response(200, text=line).json() for line in answer.text.splitlines()]


async def create_job(web: Web, world: World) -> Any:
    job = (await web.post("/v1/jobs?requestId=once", json=TRAIN)).json()
    again = (await web.post("/v1/jobs?requestId=once", json=TRAIN)).json()
    assert again["name"] == job["name"]
    assert job["state"] == "JOB_STATE_QUEUED"
    assert (job["attempt"], job["sequence"], job["attempts"]) == (0, "1", [])
    assert job["train"]["epochs"] == 3


async def get_job(web: Web, world: World) -> None:
    job = (await web.get(f"/v1/{world.finished}")).json()
    assert (job["name"], job["state"]) == (world.finished, "JOB_STATE_SUCCEEDED")


async def list_jobs(web: Web, world: World) -> None:
    names, token = [], ""
    while True:
        page = await web.get("/v1/jobs", params={"pageSize": "1", "pageToken": token})
        names += [job["name"] for job in page.json()["jobs"]]
        token = page.json()["nextPageToken"]
        if not token:
            break
    assert {world.running, world.finished} <= set(names)
    assert len(names) == len(set(names))


async def watch_jobs(web: Web, world: World) -> None:
    async with web.stream("GET", "/v1/jobs:watch") as answer:
        async for line in answer.aiter_lines():
            if world.running in line:
                return


async def cancel_job(web: Web, world: World) -> None:
    answer = await web.post(f"/v1/{await created(web)}:cancel", json={"gracePeriod": "1s"})
    assert answer.json()["state"] == "JOB_STATE_CANCELLED"


async def retry_job(web: Web, world: World) -> None:
    answer = await web.post(f"/v1/{world.finished}:retry")
    assert answer.json()["retriedFrom"] == world.finished


async def delete_job(web: Web, world: World) -> None:
    name = await created(web)
    await web.post(f"/v1/{name}:cancel")
    assert (await web.delete(f"/v1/{name}")).json() == {}
    assert (await web.get(f"/v1/{name}")).status_code == 404


async def explain_job(web: Web, world: World) -> None:
    answer = await web.get(f"/v1/{await created(web)}:explain")
    assert answer.json()["summary"]


async def list_job_events(web: Web, world: World) -> None:
    events = (await web.get(f"/v1/{world.finished}/events")).json()["events"]
    assert [int(event["sequence"]) for event in events] == sorted(int(event["sequence"]) for event in events)
    assert events[0]["update"]["stateChanged"]["reason"] == "CREATED"


async def watch_progress(web: Web, world: World) -> None:
    messages = streamed(await web.get(f"/v1/{world.finished}:watch"))
    assert messages[0]["event"]["sequence"] == "1"
    assert messages[-1]["event"]["update"]["stateChanged"]["toState"] == "JOB_STATE_SUCCEEDED"


async def list_metrics(web: Web, world: World) -> None:
    assert (await web.get(f"/v1/{world.finished}/metrics")).json() == {"epochs": [], "nextPageToken": ""}


async def get_result(web: Web, world: World) -> None:
    result = (await web.get(f"/v1/{world.finished}/result")).json()
    assert result["code"] == 5
    assert "no result yet" in result["message"]


async def list_predictions(web: Web, world: World) -> None:
    assert (await web.get(f"/v1/{world.finished}/predictions?page_size=5")).json()["predictions"] == []


async def watch_predictions(web: Web, world: World) -> None:
    assert streamed(await web.get(f"/v1/{world.finished}/predictions:watch")) == []


async def list_artifacts(web: Web, world: World) -> None:
    (artifact,) = (await web.get(f"/v1/{world.finished}/artifacts")).json()["artifacts"]
    assert (artifact["name"], artifact["sizeBytes"]) == (f"{world.finished}/artifacts/notes", "10")


async def download_artifact(web: Web, world: World) -> None:
    assert (await web.get(f"/v1/{world.finished}/artifacts/notes:download")).content == b"0123456789"


async def list_runners(web: Web, world: World) -> None:
    assert (await web.get("/v1/runners")).json()["runners"][0]["state"] == "RUNNER_STATE_ONLINE"


async def runner_of(web: Web) -> str:
    return str((await web.get("/v1/runners")).json()["runners"][0]["name"])


async def get_runner(web: Web, world: World) -> None:
    name = await runner_of(web)
    assert (await web.get(f"/v1/{name}")).json()["framework"] == "ultralytics"


async def drain_runner(web: Web, world: World) -> None:
    name = await runner_of(web)
    assert (await web.post(f"/v1/{name}:drain")).json()["state"] == "RUNNER_STATE_DRAINING"


async def undrain_runner(web: Web, world: World) -> None:
    name = await runner_of(web)
    assert (await web.post(f"/v1/{name}:undrain")).json()["state"] == "RUNNER_STATE_ONLINE"


async def store_object(web: Web, world: World) -> None:
    query = {
        "job": world.running,
        "attempt": "1",
        "path": "a.txt",
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }
    answer = await web.post("/v1/objects:store", params=query, content=b"abc")
    assert answer.json()["uri"].endswith("/a.txt")


async def fetch_object(web: Web, world: World) -> None:
    asked = {"job": world.running, "attempt": 1, "uris": ["file:///etc/passwd"]}
    answer = await web.post("/v1/objects:fetch", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (403, 7)


async def upload_file(web: Web, world: World) -> None:
    answer = await web.post("/v1/uploads?filename=a.txt", content=b"abc")
    assert answer.json()["sha256"] == hashlib.sha256(b"abc").hexdigest()


async def create_dataset(web: Web, world: World) -> None:
    upload = (await web.post("/v1/uploads?filename=a.zip", content=b"no archive")).json()
    answer = await web.post("/v1/datasets", json={"upload": upload["name"], "dataset": {}})
    assert (answer.status_code, answer.json()["details"][0]["reason"]) == (400, "BAD_ARCHIVE")


async def get_dataset(web: Web, world: World) -> None:
    assert (await web.get(f"/v1/{world.dataset}")).json()["task"] == "TASK_DETECT"


async def list_datasets(web: Web, world: World) -> None:
    names = [dataset["name"] for dataset in (await web.get("/v1/datasets")).json()["datasets"]]
    assert world.dataset in names


async def delete_dataset(web: Web, world: World) -> None:
    assert (await web.delete(f"/v1/{world.dataset}")).json()["code"] == 9
    assert (await web.delete(f"/v1/{world.unlabelled}")).json() == {}


async def list_media_items(web: Web, world: World) -> None:
    asked = [("ids", "a"), ("ids", "b"), ("state", "MEDIA_ITEM_STATE_SYNCED")]
    answer = await web.get("/v1/mediaItems", params=asked)
    assert answer.json() == {"items": [], "nextPageToken": ""}
    assert (await web.get("/v1/mediaItems?state=99")).status_code == 400


CASES = {
    "CreateJob": create_job,
    "GetJob": get_job,
    "ListJobs": list_jobs,
    "WatchJobs": watch_jobs,
    "CancelJob": cancel_job,
    "RetryJob": retry_job,
    "DeleteJob": delete_job,
    "ExplainJob": explain_job,
    "ListJobEvents": list_job_events,
    "WatchProgress": watch_progress,
    "ListMetrics": list_metrics,
    "GetResult": get_result,
    "ListPredictions": list_predictions,
    "WatchPredictions": watch_predictions,
    "ListArtifacts": list_artifacts,
    "DownloadArtifact": download_artifact,
    "ListRunners": list_runners,
    "GetRunner": get_runner,
    "DrainRunner": drain_runner,
    "UndrainRunner": undrain_runner,
    "StoreObject": store_object,
    "FetchObject": fetch_object,
    "UploadFile": upload_file,
    "CreateDataset": create_dataset,
    "GetDataset": get_dataset,
    "ListDatasets": list_datasets,
    "DeleteDataset": delete_dataset,
    "ListMediaItems": list_media_items,
}


async def test_there_is_a_case_for_every_rpc() -> None:
    assert set(CASES) == {route.method.name for route in routes_of(CONTRACTS)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_rpc(case: Any, web: Web, world: World) -> None:
    async with asyncio.timeout(PATIENCE):
        await case(web, world)


REFUSED: list[tuple[str, str, Any, int, int, str]] = [
    ("GET", "/v1/jobs/absent", None, 404, 5, "NOT_FOUND"),
    ("GET", "/v1/jobs/A%20B", None, 400, 3, "INVALID_ARGUMENT"),
    ("POST", "/v1/{finished}:cancel", {}, 400, 9, "JOB_ALREADY_ENDED"),
    ("GET", "/v1/jobs?pageToken=x", None, 400, 3, "BAD_PAGE_TOKEN"),
    ("GET", "/v1/jobs?colour=red", None, 400, 3, "INVALID_ARGUMENT"),
    ("POST", "/v1/jobs", {"train": {"colour": 1}}, 400, 3, "INVALID_ARGUMENT"),
    ("POST", "/v1/jobs", {"train": {"dataset": "datasets/shapes", "epochs": -1}}, 400, 3, "INVALID_ARGUMENT"),
    ("POST", "/v1/jobs?requestId=twice", TRAIN | {"priority": 9}, 409, 6, "REQUEST_ID_REUSED"),
    ("POST", "/v1/jobs", {"displayName": "x" * 100_000}, 413, 8, "MESSAGE_TOO_LARGE"),
    ("GET", "/v1/{finished}:watch?afterSequence=1000", None, 400, 11, "OUT_OF_RANGE"),
    ("GET", "/v1/jobs/absent:watch", None, 404, 5, "NOT_FOUND"),
    ("GET", "/v1/nothing", None, 404, 5, "NOT_FOUND"),
    ("GET", "/v1/jobs/", None, 404, 5, "NOT_FOUND"),
    ("GET", "/", None, 404, 5, "NOT_FOUND"),
    ("PATCH", "/v1/jobs", None, 405, 12, "METHOD_NOT_ALLOWED"),
    ("HEAD", "/v1/jobs:watch", None, 405, 12, ""),
    ("POST", "/healthz", None, 405, 12, "METHOD_NOT_ALLOWED"),
]


@pytest.mark.parametrize(("verb", "path", "body", "http", "code", "reason"), REFUSED)
async def test_refused(
    web: Web, world: World, verb: str, path: str, body: Any, http: int, code: int, reason: str
) -> None:
    if "twice" in path:
        await web.post(path, json=TRAIN)
    answer = await web.request(verb, path.format(finished=world.finished), json=body)
    assert answer.status_code == http, answer.text
    if not reason:
        return
    said = answer.json()
    (info,) = [detail for detail in said["details"] if detail["@type"].endswith("ErrorInfo")]
    assert (said["code"], info["reason"], info["domain"]) == (code, reason, "visionmesh")
    assert said["message"]
    if http == 405:
        assert "GET" in answer.headers["allow"]


async def test_every_code_has_its_http_status() -> None:
    expected = {
        "OK": 200, "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504,
        "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429,
        "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501,
        "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500, "UNAUTHENTICATED": 401,
    }  # fmt: skip
    assert {code.name: status for code, status in HTTP_STATUS.items()} == expected
    assert set(HTTP_STATUS) == set(grpc.StatusCode)


async def test_head_is_get_without_the_body(web: Web, world: World) -> None:
    answer = await web.head(f"/v1/{world.finished}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize(
    ("given", "http", "reason"),
    [
        ("1u", 504, Reason.DEADLINE_EXCEEDED),
        ("0S", 504, Reason.DEADLINE_EXCEEDED),
        ("30S", 200, ""),
        ("soon", 400, Reason.INVALID_ARGUMENT),
    ],
)
async def test_grpc_timeout_is_the_deadline(
    web: Web, world: World, given: str, http: int, reason: str
) -> None:
    answer = await web.get("/v1/jobs", headers={"Grpc-Timeout": given})
    assert answer.status_code == http
    assert reason in answer.text


@pytest.mark.parametrize(
    ("headers", "http"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:81", "Origin": "http://localhost:81"}, 200),
        ({"Host": "localhost:81", "Origin": "http://localhost:82"}, 403),
    ],
)
async def test_only_pages_of_the_gateway_itself_may_call(
    web: Web, headers: dict[str, str], http: int
) -> None:
    assert (await web.get("/v1/jobs", headers=headers)).status_code == http


async def test_pages_of_a_named_origin_may_call(mesh: Any) -> None:
    page = {"Origin": "https://app.example"}
    async with before(mesh.address, cors_origins="https://app.example, http://localhost:5173/") as web:
        asked = {
            **page,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "grpc-timeout",
        }
        preflight = await web.options("/v1/jobs", headers=asked)
        assert preflight.status_code == 200, preflight.text
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        answer = await web.get("/v1/jobs/absent", headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        foreign = await web.get("/v1/jobs", headers={"Origin": "https://other.example"})
        assert foreign.status_code == 403
        assert "access-control-allow-origin" not in foreign.headers


async def test_ready_as_long_as_the_scheduler_serves(web: Web) -> None:
    assert (await web.get("/healthz")).json() == {"status": "SERVING"}
    assert (await web.get("/readyz")).json() == {"status": "SERVING"}


async def test_without_a_scheduler_it_lives_and_is_not_ready() -> None:
    async with before("127.0.0.1:1") as web:
        assert (await web.get("/healthz")).status_code == 200
        assert (await web.get("/readyz")).status_code == 503
        answer = await web.get("/v1/jobs", headers={"Grpc-Timeout": "20S"})
        assert answer.status_code == 503
        assert "vmesh up" in answer.json()["message"]
