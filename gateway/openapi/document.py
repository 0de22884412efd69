"""The whole document."""

from functools import cache
from typing import Any

from google.rpc import status_pb2

from gateway.openapi.comments import comments
from gateway.openapi.paths import operation, path_of
from gateway.openapi.schemas import Schemas
from gateway.routes import CONTRACTS, routes_of
from visionmesh import __version__

_ABOUT = """Trains, validates and runs computer-vision models, and streams what happens while it happens.

Made from the contracts in `protos/visionmesh/v1`; `docs/rest.md` tells how streams, files and errors work."""


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1 of every route."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(routes_of(CONTRACTS), key=path_of):
        paths.setdefault(path_of(route), {})[route.verb.lower()] = operation(route, schemas)
    error = schemas.message(status_pb2.Status.DESCRIPTOR)
    return {
        "openapi": "3.1.0",
        "info": {"title": "VisionMesh", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": _tags(),
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {
                "Error": {
                    "description": "What went wrong: google.rpc.Status.",
                    "content": {"application/json": {"schema": error}},
                }
            },
        },
    }


def _tags() -> list[dict[str, str]]:
    services = [service for file in CONTRACTS for service in file.services_by_name.values()]
    said = comments()
    return [{"name": each.name, "description": said.get(each.full_name, "")} for each in services]
