"""Requests from paths, query parameters and JSON, by the rules of google.api.http and proto3 JSON."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.text_format import Parse

from gateway.requests import request_of
from gateway.routes import CONTRACTS, Route, routes_of
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2

ROUTES = {route.method.name: route for route in routes_of(CONTRACTS)}


def made(rpc: str, path: dict[str, str] | None = None, query: Any = (), body: bytes | str = b"") -> Any:
    raw = body.encode() if isinstance(body, str) else body
    return request_of(ROUTES[rpc], path or {}, list(query), raw)


QUERIES = [
    ("ListJobs", [("page_size", "7")], "page_size: 7"),
    ("ListJobs", [("pageSize", "7"), ("orderBy", "create_time")], 'page_size: 7 order_by: "create_time"'),
    ("ListJobs", [], ""),
    ("ListJobs", [("filter", "")], ""),
    ("CreateJob", [("validate_only", "true")], "validate_only: true job {}"),
    ("CreateJob", [("requestId", "ü&=")], 'request_id: "ü&=" job {}'),
]


@pytest.mark.parametrize(("rpc", "query", "expected"), QUERIES)
def test_query_parameters_are_fields(rpc: str, query: list[tuple[str, str]], expected: str) -> None:
    request = made(rpc, query=query)
    assert request == Parse(expected, type(request)())


IN_A_JOB = [
    ([("train.epochs", "3")], "train { epochs: 3 }"),
    ([("train.task", "TASK_DETECT")], "train { task: TASK_DETECT }"),
    ([("train.task", "1")], "train { task: TASK_DETECT }"),
    ([("runTimeout", "1.5s")], "run_timeout { seconds: 1 nanos: 500000000 }"),
    ([("depends_on", "jobs/a"), ("dependsOn", "jobs/b")], 'depends_on: "jobs/a" depends_on: "jobs/b"'),
    ([("create_time", "1970-01-01T00:00:07Z")], "create_time { seconds: 7 }"),
    ([("train.learning_rate", "1e-3")], "train { learning_rate: 0.001 }"),
    ([("train.pretrained", "false")], "train {}"),
    ([("sequence", "9007199254740993")], "sequence: 9007199254740993"),
]


@pytest.mark.parametrize(("query", "expected"), IN_A_JOB)
def test_nested_fields_and_values_of_every_kind(query: list[tuple[str, str]], expected: str) -> None:
    route = Route("GET", ROUTES["ListJobs"].template, _Method, "", "")  # type: ignore[arg-type]
    assert request_of(route, {}, query, b"") == Parse(expected, job_pb2.Job())


class _Method:
    """An RPC that takes a job, to have fields of every kind in a query."""

    name = "Made"
    input_type = job_pb2.Job.DESCRIPTOR


REFUSED_QUERIES = [
    ("ListJobs", [("colour", "red")], "colour", "filter, orderBy, pageSize, pageToken"),
    ("ListJobs", [("page_size", "many")], "page_size", "'many' is no integer"),
    ("ListJobs", [("page_size", "1"), ("pageSize", "2")], "pageSize", "given twice"),
    ("CreateJob", [("validate_only", "yes")], "validate_only", "neither true nor false"),
    ("CreateJob", [("job.display_name", "x")], "job.display_name", "Path or body give this field"),
    ("CancelJob", [("grace_period", "1s")], "grace_period", "Path or body give this field"),
    ("ListJobs", [("page_size.x", "1")], "page_size.x", "no such query parameter"),
]


@pytest.mark.parametrize(("rpc", "query", "field", "words"), REFUSED_QUERIES)
def test_a_wrong_query_parameter_is_named(
    rpc: str, query: list[tuple[str, str]], field: str, words: str
) -> None:
    with pytest.raises(MeshError) as caught:
        made(rpc, query=query)
    (violation,) = caught.value.violations
    assert (violation.field, words in violation.description) == (field, True), violation


@pytest.mark.parametrize("name", ["labels", "labels.a", "train", "train.hyperparameters", "attempts.attempt"])
def test_objects_are_no_query_parameters(name: str) -> None:
    route = Route("GET", ROUTES["ListJobs"].template, _Method, "", "")  # type: ignore[arg-type]
    with pytest.raises(MeshError) as caught:
        request_of(route, {}, [(name, "x")], b"")
    assert caught.value.violations[0].field == name


BODIES = [
    ("CancelJob", {"name": "jobs/a"}, "", 'name: "jobs/a"'),
    ("CancelJob", {"name": "jobs/a"}, '{"gracePeriod": "2s"}', 'name: "jobs/a" grace_period { seconds: 2 }'),
    ("CancelJob", {"name": "jobs/a"}, '{"name": "jobs/b"}', 'name: "jobs/a"'),
    ("CreateJob", {}, '{"display_name": "x", "priority": "7"}', 'job { display_name: "x" priority: 7 }'),
    ("CreateJob", {}, '{"labels": {"a": "b"}}', 'job { labels { key: "a" value: "b" } }'),
    ("CreateJob", {}, "null", ""),
]


@pytest.mark.parametrize(("rpc", "path", "body", "expected"), BODIES)
def test_bodies_are_fields(rpc: str, path: dict[str, str], body: str, expected: str) -> None:
    request = made(rpc, path, body=body)
    assert request == Parse(expected, type(request)())


REFUSED_BODIES: list[tuple[str, bytes | str, str, str]] = [
    ("CreateJob", '{"colour": 1}', "job.colour", "no such field"),
    ("CreateJob", '{"train": {"epoch": 1}}', "job.train.epoch", "no such field"),
    ("CreateJob", '{"train": {"epochs": "x"}}', "job.train.epochs", "is no integer"),
    ("CreateJob", '{"train": {"epochs": 1.5}}', "job.train.epochs", "Couldn't parse integer"),
    ("CreateJob", '{"train": {"task": "TASK_PAINT"}}', "job.train.task", "TASK_PAINT"),
    ("CreateJob", '{"train": {}, "infer": {}}', "job", "oneof"),
    ("CreateJob", '{"dependsOn": ["a", 7]}', "job.dependsOn", "expected string"),
    ("CreateJob", '{"attempts": [{}, {"x": 7}]}', "job.attempts[1].x", "no such field"),
    ("CreateJob", '{"runTimeout": "soon"}', "job.runTimeout", "uration"),
    ("CreateJob", '{"priority": 1, "priority": 2}', "body", "given twice"),
    ("CreateJob", '{"train": {"learningRate": NaN}}', "body", "no number of JSON"),
    ("CreateJob", "{", "body", "no JSON"),
    ("CreateJob", b"\xff", "body", "no JSON"),
    ("CreateJob", "[" * 100_000, "body", "nested too deeply"),
    ("CreateJob", '{"train": {"hyperparameters": ' + '{"a": ' * 300 + "1" + "}" * 302, "", ""),
    ("CancelJob", "[]", "body", "JSON array"),
    ("CancelJob", "7", "body", "JSON number"),
    ("ListJobs", "{}", "body", "takes no body"),
]


@pytest.mark.parametrize(("rpc", "body", "field", "words"), REFUSED_BODIES)
def test_a_wrong_body_is_refused_by_field(rpc: str, body: bytes | str, field: str, words: str) -> None:
    with pytest.raises(MeshError) as caught:
        made(rpc, body=body)
    (violation,) = caught.value.violations
    assert field in ("", violation.field), violation
    assert words in violation.description


def test_numbers_that_are_no_numbers_travel_as_text() -> None:
    body = json.dumps({"train": {"hyperparameters": {"a": None}, "learningRate": "NaN"}})
    job = made("CreateJob", body=body).job
    assert MessageToDict(job)["train"]["learningRate"] == "NaN"
