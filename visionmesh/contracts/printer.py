"""Turns a compiled file descriptor back into .proto source: proto2, proto3 and edition 2023.

Compiling what is printed gives the same descriptor again. Two things are not in a descriptor that Python
carries, and so not in the source: comments, and options with source retention.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    OneofDescriptorProto,
    ServiceDescriptorProto,
)

from visionmesh.contracts._options import bracketed, quoted, statements

_EDITION_2023 = 1000
_MAX_FIELD_NUMBER = 536870911
_MAX_ENUM_NUMBER = 2147483647

Lines = Iterator[str]


def proto_source(file: FileDescriptorProto) -> str:
    """`file` as .proto source. Raises ValueError for what has no place in the syntaxes above."""
    return "\n".join(_file(file)) + "\n"


def _file(file: FileDescriptorProto) -> Lines:
    yield _header(file)
    if file.package:
        yield from ("", f"package {file.package};")
    yield from _spaced(_imports(file))
    yield from _spaced(statements(file.options))
    dialect = _Dialect(file.syntax)
    for block in (
        *(dialect.message(message) for message in file.message_type),
        *(dialect.enum(enum) for enum in file.enum_type),
        *dialect.extensions(file.extension),
        *(_service(service) for service in file.service),
    ):
        yield from _spaced(block)


def _imports(file: FileDescriptorProto) -> Lines:
    for index, name in enumerate(file.dependency):
        kind = "public " if index in file.public_dependency else ""
        kind = "weak " if index in file.weak_dependency else kind
        yield f"import {kind}{quoted(name)};"


def _service(service: ServiceDescriptorProto) -> Lines:
    methods = (line for method in service.method for line in _method(method))
    yield from _block(f"service {service.name}", [*statements(service.options), *methods])


def _method(method: MethodDescriptorProto) -> Lines:
    taken = f"stream {method.input_type}" if method.client_streaming else method.input_type
    given = f"stream {method.output_type}" if method.server_streaming else method.output_type
    head = f"rpc {method.name}({taken}) returns ({given})"
    options = list(statements(method.options))
    yield from _block(head, options) if options else (f"{head};",)


def _header(file: FileDescriptorProto) -> str:
    if file.syntax in ("", "proto2", "proto3"):
        return f'syntax = "{file.syntax or "proto2"}";'
    if file.syntax == "editions" and file.edition == _EDITION_2023:
        return 'edition = "2023";'
    raise ValueError(
        f"{file.name} is in a syntax that is not printed: neither proto2, proto3 nor edition 2023"
    )


class _Dialect:
    """Prints messages, enums and extensions, which look different from syntax to syntax."""

    def __init__(self, syntax: str) -> None:
        self._syntax = syntax or "proto2"

    def message(self, message: DescriptorProto) -> Lines:
        """A message with everything in it."""
        body = [
            *statements(message.options),
            *self._members(message),
            *(line for enum in message.enum_type for line in self.enum(enum)),
            *(line for block in self.extensions(message.extension) for line in block),
            *_extension_ranges(message),
            *self._reserved(
                [(span.start, span.end - 1) for span in message.reserved_range], message.reserved_name
            ),
        ]
        yield from _block(f"message {message.name}", body)

    def _members(self, message: DescriptorProto) -> Lines:
        """Fields, oneofs and nested messages, so that the entries of maps keep their places among these."""
        waiting = list(message.nested_type)
        written: set[int] = set()
        for field in message.field:
            entry = _entry(message, field)
            while entry in waiting:
                yield from self._nested(waiting.pop(0))
            if not field.HasField("oneof_index") or field.proto3_optional:
                yield from self._field(field, entry)
            elif field.oneof_index not in written:
                written.add(field.oneof_index)
                members = [each for each in message.field if _is_in(field.oneof_index, each)]
                yield from self._oneof(message.oneof_decl[field.oneof_index], members)
        for nested in waiting:
            yield from self._nested(nested)

    def _nested(self, nested: DescriptorProto) -> Lines:
        if not nested.options.map_entry:
            yield from self.message(nested)

    def _oneof(self, oneof: OneofDescriptorProto, members: Sequence[FieldDescriptorProto]) -> Lines:
        body = [line for field in members for line in _declared("", _type(field), field)]
        yield from _block(f"oneof {oneof.name}", [*statements(oneof.options), *body])

    def _field(self, field: FieldDescriptorProto, entry: DescriptorProto | None = None) -> Lines:
        if entry is not None:
            key, value = entry.field
            yield from _declared("", f"map<{_type(key)}, {_type(value)}>", field)
        else:
            yield from _declared(self._label(field), _type(field), field)

    def _label(self, field: FieldDescriptorProto) -> str:
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return "repeated "
        if field.label == FieldDescriptorProto.LABEL_REQUIRED:
            return "required "
        return "optional " if self._syntax == "proto2" or field.proto3_optional else ""

    def extensions(self, fields: Iterable[FieldDescriptorProto]) -> Iterator[Lines]:
        """An `extend` block for each run of extensions of one message."""
        for extendee, run in groupby(fields, key=lambda field: field.extendee):
            body = [line for field in run for line in self._field(field)]
            yield _block(f"extend {extendee}", body)

    def enum(self, enum: EnumDescriptorProto) -> Lines:
        """An enum with its values."""
        values = [
            line
            for value in enum.value
            for line in _ended(f"{value.name} = {value.number}", bracketed(value.options))
        ]
        spans = [(span.start, span.end) for span in enum.reserved_range]
        reserved = self._reserved(spans, enum.reserved_name, _MAX_ENUM_NUMBER)
        yield from _block(f"enum {enum.name}", [*statements(enum.options), *values, *reserved])

    def _reserved(
        self, spans: Sequence[tuple[int, int]], names: Sequence[str], highest: int = _MAX_FIELD_NUMBER
    ) -> Lines:
        if spans:
            yield f"reserved {', '.join(_span(first, last, highest) for first, last in spans)};"
        if names:
            yield f"reserved {', '.join(names if self._syntax == 'editions' else map(quoted, names))};"


def _extension_ranges(message: DescriptorProto) -> Lines:
    for span in message.extension_range:
        numbers = _span(span.start, span.end - 1, _MAX_FIELD_NUMBER)
        yield from _ended(f"extensions {numbers}", bracketed(span.options))


def _declared(label: str, kind: str, field: FieldDescriptorProto) -> Lines:
    yield from _ended(f"{label}{kind} {field.name} = {field.number}", bracketed(field.options, _own(field)))


def _own(field: FieldDescriptorProto) -> Lines:
    """What is written like an option, and is none: the default and the JSON name."""
    if field.HasField("default_value"):
        default = field.default_value
        if field.type == FieldDescriptorProto.TYPE_STRING:
            default = quoted(default)
        elif field.type == FieldDescriptorProto.TYPE_BYTES:
            default = f'"{default}"'  # escaped already
        yield f"default = {default}"
    if field.HasField("json_name") and field.json_name != _json_name(field.name):
        yield f"json_name = {quoted(field.json_name)}"


def _json_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)


def _type(field: FieldDescriptorProto) -> str:
    if field.type == FieldDescriptorProto.TYPE_GROUP:
        raise ValueError(f"the group {field.name} is not printed: write it as a message")
    return field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _is_in(oneof: int, field: FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and field.oneof_index == oneof and not field.proto3_optional


def _entry(message: DescriptorProto, field: FieldDescriptorProto) -> DescriptorProto | None:
    """The nested message that a map field stands for; None for any other field."""
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{message.name}.{nested.name}"):
            return nested
    return None


def _span(first: int, last: int, highest: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {'max' if last == highest else last}"


def _ended(head: str, options: str) -> Lines:
    """One declaration, whose options may take several lines."""
    yield from f"{head}{options};".split("\n")


def _block(head: str, body: Sequence[str]) -> Lines:
    if not body:
        yield f"{head} {{}}"
        return
    yield f"{head} {{"
    yield from (f"  {line}" for line in body)
    yield "}"


def _spaced(lines: Iterable[str]) -> Lines:
    """The lines after an empty one; nothing for nothing."""
    for number, line in enumerate(lines):
        if number == 0:
            yield ""
        yield line
