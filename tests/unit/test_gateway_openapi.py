"""The OpenAPI document is valid, complete, and says what the contracts say."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.openapi.comments import comments
from gateway.openapi.document import document
from gateway.routes import CONTRACTS, routes_of


def test_it_is_valid() -> None:
    validate(document())


def test_every_route_is_an_operation() -> None:
    operations = [
        (verb.upper(), operation["operationId"])
        for path in document()["paths"].values()
        for verb, operation in path.items()
    ]
    assert sorted(operations) == sorted((route.verb, route.method.name) for route in routes_of(CONTRACTS))


def operation(path: str, verb: str = "get") -> Any:
    return document()["paths"][path][verb]


def test_paths_have_one_parameter_for_each_part() -> None:
    (job, artifact, offset) = operation("/v1/jobs/{job}/artifacts/{artifact}:download")["parameters"]
    assert (job["name"], job["schema"]["pattern"]) == ("job", "^[a-z0-9-]{1,63}$")
    assert artifact["schema"]["pattern"] == "^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$"
    assert (offset["name"], offset["in"]) == ("readOffset", "query")
    assert [each["name"] for each in operation("/v1/jobs/{job}/result")["parameters"]] == ["job"]


def test_comments_are_descriptions() -> None:
    create = operation("/v1/jobs", "post")
    assert create["summary"] == "Accepts a job and returns it, stored, in state PENDING or QUEUED."
    assert "ALREADY_EXISTS: the request_id was used" in create["description"]
    schemas = document()["components"]["schemas"]
    assert schemas["Job"]["properties"]["priority"]["description"].startswith("0 (background) to 10 (urgent)")
    assert "- `JOB_STATE_QUEUED`: " in schemas["JobState"]["description"]
    assert "At most one of train, validate, infer" in schemas["Job"]["description"]


def test_rules_are_ranges() -> None:
    properties = document()["components"]["schemas"]["TrainSpec"]["properties"]
    epochs, rate = properties["epochs"], properties["learningRate"]
    assert (epochs["type"], epochs["minimum"], epochs["maximum"]) == ("integer", 1, 100_000)
    assert (rate["type"], rate["exclusiveMinimum"], rate["maximum"]) == ("number", 0, 10)
    assert properties["dataset"]["pattern"] == "^datasets/[a-z0-9-]{1,63}$"
    assert properties["device"]["pattern"].startswith("^$|^(cpu|")
    assert document()["components"]["schemas"]["TrainSpec"]["required"] == ["dataset"]
    job = document()["components"]["schemas"]["Job"]["properties"]
    assert job["labels"]["maxProperties"] == 64
    assert job["dependsOn"]["maxItems"] == 100
    assert job["state"]["readOnly"] is True
    assert job["sequence"]["type"] == "string"


def test_every_message_field_and_value_of_ours_has_its_comment() -> None:
    said = comments()
    lacking = [
        field.full_name
        for file in CONTRACTS
        for message in file.message_types_by_name.values()
        for field in message.fields
        if not said.get(field.full_name)
    ]
    assert lacking == []
    methods = [
        method.full_name
        for file in CONTRACTS
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    assert [name for name in methods if not said.get(name)] == []


@pytest.mark.parametrize(
    ("path", "verb", "kinds"),
    [
        ("/v1/jobs/{job}:watch", "get", {"application/x-ndjson", "text/event-stream"}),
        ("/v1/jobs/{job}", "get", {"application/json"}),
        ("/v1/jobs/{job}/artifacts/{artifact}:download", "get", {"*/*"}),
    ],
)
def test_answers_have_the_kinds_that_they_come_in(path: str, verb: str, kinds: set[str]) -> None:
    assert set(operation(path, verb)["responses"]["200"]["content"]) == kinds
