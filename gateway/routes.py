"""The routes: every RPC of the contracts that has a google.api.http form."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor

from gateway.templates import Template, parse
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2

CONTRACTS: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR for module in (job_pb2, progress_pb2, result_pb2, dataset_pb2, runner_pb2)
)

RAW = "google.api.HttpBody"
"""A message that is not JSON over HTTP, but bytes with a content type."""


@dataclass(frozen=True)
class Route:
    """One HTTP form of one RPC."""

    verb: str
    """GET, POST, PUT, PATCH or DELETE."""

    template: Template
    """Its path."""

    method: MethodDescriptor
    """The RPC."""

    body: str
    """Field that the body is; `*` for the whole request, empty for none."""

    response_body: str
    """Field of the response that the answer is; empty for all of it."""

    @property
    def is_upload(self) -> bool:
        """The body is bytes: the request is a stream of a header and pieces."""
        return bool(self.method.client_streaming)

    @property
    def is_download(self) -> bool:
        """The answer is bytes."""
        return self.method.output_type.full_name == RAW

    @property
    def is_stream(self) -> bool:
        """The answer is messages, one after the other."""
        return bool(self.method.server_streaming) and not self.is_download

    @property
    def grpc_path(self) -> str:
        """The RPC as gRPC names it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


def routes_of(files: Iterable[FileDescriptor]) -> tuple[Route, ...]:
    """The routes of every service in `files`; those with a verb first, because they match less."""
    found = [
        route
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        for route in _routes(method)
    ]
    return tuple(sorted(found, key=lambda route: not route.template.verb))


def _routes(method: MethodDescriptor) -> Iterator[Route]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    rule: http_pb2.HttpRule = options.Extensions[annotations_pb2.http]
    for each in (rule, *rule.additional_bindings):
        verb, path = _pattern(each)
        yield Route(verb, parse(path), method, each.body, each.response_body)


def _pattern(rule: http_pb2.HttpRule) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        return rule.custom.kind, rule.custom.path
    return kind.upper(), getattr(rule, kind)


@dataclass(frozen=True)
class Match:
    """What a path leads to."""

    routes: Sequence[tuple[Route, dict[str, str]]]
    """Each route of that path, with the fields that the path gives."""

    def of(self, verb: str) -> tuple[Route, dict[str, str]] | None:
        """The route for one HTTP method."""
        return next((found for found in self.routes if found[0].verb == verb), None)

    @property
    def allowed(self) -> str:
        """What the header Allow says."""
        verbs = {route.verb for route, _ in self.routes}
        head = (
            {"HEAD"}
            if any(route.verb == "GET" and not route.is_stream for route, _ in self.routes)
            else set()
        )
        return ", ".join(sorted(verbs | head))


def match(routes: Iterable[Route], path: str) -> Match:
    """Every route whose template is `path`, still percent-encoded."""
    found = ((route, route.template.match(path)) for route in routes)
    return Match([(route, fields) for route, fields in found if fields is not None])


@dataclass(frozen=True)
class UploadParts:
    """The fields of a request that is a stream of a header and pieces."""

    header: str
    header_type: Descriptor
    piece: str


def upload_parts(method: MethodDescriptor) -> UploadParts:
    """What the requests of an upload are made of."""
    (oneof,) = method.input_type.oneofs
    header, kind = next((field.name, field.message_type) for field in oneof.fields if field.message_type)
    piece = next(field.name for field in oneof.fields if field.type == FieldDescriptor.TYPE_BYTES)
    return UploadParts(header, kind, piece)
