"""multipart/form-data as it comes in: small fields, then one file, never held as a whole."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.multipart import MultipartParser, parse_options_header

from visionmesh.errors import MeshError, Reason, invalid

_MAX_FIELD_BYTES = 64 * 1024


@dataclass
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    value: bytearray = field(default_factory=bytearray)


class Form:
    """Reads one form: first `fields`, then the file."""

    def __init__(self, body: AsyncIterator[bytes], content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise _bad("", f"Content-Type is {content_type!r}; a form says multipart/form-data; boundary=…")
        self.fields: list[tuple[str, str]] = []
        """Name and value of each part before the file, once `read_fields` has returned."""
        self.filename: str | None = None
        """The file's name; None where there is no file."""
        self._body, self._part, self._name = body, _Part(), bytearray()
        self._header_value = bytearray()
        self._waiting: list[bytes] = []
        self._ended = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def read_fields(self) -> None:
        """Read up to the file's first bytes. Raises INVALID_ARGUMENT."""
        while self.filename is None and not self._ended:
            await self._advance()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file's bytes. Raises INVALID_ARGUMENT."""
        while True:
            for piece in self._waiting:
                yield piece
            self._waiting = []
            if self._ended:
                return
            await self._advance()

    async def _advance(self) -> None:
        piece = await anext(self._body, b"")
        if not piece:
            raise _bad("", "The form breaks off before its last boundary. Send it again")
        try:
            self._parser.write(piece)
        except ValueError as error:
            raise _bad("", f"The form cannot be read: {error}. Let a library write it") from None

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._part.headers[self._name.decode("latin-1").lower()] = self._header_value.decode("latin-1")
        self._name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", ""))
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if self.filename is not None:
            raise _bad(self._part.name, "Nothing follows the file. Put the fields before it")
        if b"filename" in options:
            self.filename = self._part.filename = options[b"filename"].decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is not None:
            self._waiting.append(data[start:end])
            return
        self._part.value += data[start:end]
        if len(self._part.value) > _MAX_FIELD_BYTES:
            raise _bad(
                self._part.name, f"The field is longer than {_MAX_FIELD_BYTES} bytes. Send it as a file"
            )

    def _on_part_end(self) -> None:
        if self._part.filename is None:
            self.fields.append((self._part.name, self._part.value.decode("utf-8", "replace")))

    def _on_end(self) -> None:
        self._ended = True


def _bad(field: str, description: str) -> MeshError:
    return invalid(Reason.INVALID_ARGUMENT, field or "body", f"{description}.")
