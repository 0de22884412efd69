"""Path templates match what google/api/http.proto says they do."""

import pytest

from gateway.routes import CONTRACTS, match, routes_of
from gateway.templates import parse

MATCHES = [
    ("/v1/jobs", "/v1/jobs", {}),
    ("/v1/{name=jobs/*}", "/v1/jobs/a-1", {"name": "jobs/a-1"}),
    ("/v1/{name=jobs/*}:cancel", "/v1/jobs/a-1:cancel", {"name": "jobs/a-1"}),
    ("/v1/{name=jobs/*/result}", "/v1/jobs/a-1/result", {"name": "jobs/a-1/result"}),
    ("/v1/{parent=jobs/*}/events", "/v1/jobs/a-1/events", {"parent": "jobs/a-1"}),
    (
        "/v1/{a=jobs/*/artifacts/**}:get",
        "/v1/jobs/1/artifacts/x/y.jpg:get",
        {"a": "jobs/1/artifacts/x/y.jpg"},
    ),
    ("/v1/{a=**}", "/v1/x/y", {"a": "x/y"}),
    ("/v1/{id}", "/v1/seven", {"id": "seven"}),
    ("/v1/{job.name=jobs/*}", "/v1/jobs/7", {"job.name": "jobs/7"}),
    ("/v1/{shelf}/books/{book}", "/v1/a/books/b", {"shelf": "a", "book": "b"}),
    ("/v1/*/books", "/v1/anything/books", {}),
    ("/v1/{id}", "/v1/a%20b%2Fc", {"id": "a b/c"}),
    ("/v1/{name=jobs/*}", "/v1/jobs/a%20b%2Fc", {"name": "jobs/a b%2Fc"}),
    ("/v1/{name=jobs/*}", "/v1/jobs/gr%C3%BCn", {"name": "jobs/grün"}),
    ("/v1/{name=jobs/*}", "/v1/jobs/a%3Acancel", {"name": "jobs/a:cancel"}),
]
OTHERS = [
    ("/v1/jobs", "/v1/jobs/"),
    ("/v1/jobs", "/v1/jobsx"),
    ("/v1/jobs", "/v2/jobs"),
    ("/v1/{name=jobs/*}", "/v1/jobs/"),
    ("/v1/{name=jobs/*}", "/v1/jobs/a/b"),
    ("/v1/{name=jobs/*}", "/v1/jobs/a:cancel"),
    ("/v1/{name=jobs/*}", "/v1/runners/a"),
    ("/v1/{name=jobs/*}:cancel", "/v1/jobs/a"),
    ("/v1/{name=jobs/*}:cancel", "/v1/jobs/a:retry"),
    ("/v1/jobs.x", "/v1/jobs-x"),
]


@pytest.mark.parametrize(("template", "path", "fields"), MATCHES)
def test_a_path_gives_the_fields_of_its_template(template: str, path: str, fields: dict[str, str]) -> None:
    assert parse(template).match(path) == fields


@pytest.mark.parametrize(("template", "path"), OTHERS)
def test_another_path_is_no_match(template: str, path: str) -> None:
    assert parse(template).match(path) is None


PLACES = [
    ("GET", "/v1/jobs", "ListJobs", "GET, HEAD, POST"),
    ("POST", "/v1/jobs", "CreateJob", "GET, HEAD, POST"),
    ("GET", "/v1/jobs:watch", "WatchJobs", "GET"),
    ("GET", "/v1/jobs/a:watch", "WatchProgress", "GET"),
    ("GET", "/v1/jobs/a/predictions:watch", "WatchPredictions", "GET"),
    ("DELETE", "/v1/jobs/a", "DeleteJob", "DELETE, GET, HEAD"),
    ("GET", "/v1/jobs/a/result", "GetResult", "GET, HEAD"),
    ("POST", "/v1/runners/r:drain", "DrainRunner", "POST"),
    ("GET", "/v1/jobs/a/artifacts/overlays/0.jpg:download", "DownloadArtifact", "GET, HEAD"),
]


@pytest.mark.parametrize(("verb", "path", "rpc", "allowed"), PLACES)
def test_a_path_leads_to_one_rpc(verb: str, path: str, rpc: str, allowed: str) -> None:
    found = match(routes_of(CONTRACTS), path)
    wanted = found.of(verb)
    assert wanted is not None
    assert wanted[0].method.name == rpc
    assert found.allowed == allowed
    assert found.of("PATCH") is None


def test_every_rpc_that_is_not_bidirectional_has_a_route() -> None:
    methods = {
        method.full_name
        for file in CONTRACTS
        for service in file.services_by_name.values()
        for method in service.methods
        if not (method.client_streaming and method.server_streaming)
    }
    assert {route.method.full_name for route in routes_of(CONTRACTS)} == methods
