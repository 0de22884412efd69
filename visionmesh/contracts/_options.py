"""Options of every kind of element, custom ones included, as .proto source."""

import io
from collections.abc import Iterable, Iterator

from google.protobuf import text_encoding, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def statements(options: Message) -> Iterator[str]:
    """`options` as lines of a body: `option deprecated = true;`."""
    for text in _assignments(options):
        yield from f"option {text};".split("\n")


def bracketed(options: Message, own: Iterable[str] = ()) -> str:
    """`options` as a list in brackets, after `own`; empty for none."""
    texts = [*own, *_assignments(options)]
    if len(texts) < 2:
        return "".join(f" [{text}]" for text in texts)
    return " [\n  " + ",\n".join(texts).replace("\n", "\n  ") + "\n]"


def quoted(text: str) -> str:
    """`text` as a string literal."""
    return f'"{text_encoding.CEscape(text.encode(), as_utf8=True)}"'


def _assignments(options: Message) -> Iterator[str]:
    """`name = value` for each option; a repeated one comes once per value."""
    if len(UnknownFieldSet(options)):
        raise ValueError(
            f"{type(options).__name__} holds extensions that are not loaded: import their module"
        )
    for field, given in options.ListFields():
        name = f"(.{field.full_name})" if field.is_extension else field.name
        for value in given if field.is_repeated else [given]:
            yield f"{name} = {_value(field, value)}"


def _value(field: FieldDescriptor, value: object) -> str:
    out = io.StringIO()
    text_format.PrintFieldValue(field, value, out)
    return out.getvalue().strip()
