"""Forms as they come in: fields, then one file, whatever the pieces are that they arrive in."""

from collections.abc import AsyncIterator

import pytest

from gateway.multipart import Form
from visionmesh.errors import MeshError

KIND = 'multipart/form-data; boundary="xx"'


def part(head: str, body: bytes) -> bytes:
    return b"--xx\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + body + b"\r\n"


FILE = part('name="file"; filename="grün.zip"', b"\r\n--x\r\n" * 9)
WHOLE = part('name="sha256"', b"ab") + part('name="note"', "ü".encode()) + FILE + b"--xx--\r\n"


async def pieces_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(form: Form) -> bytes:
    await form.read_fields()
    return b"".join([piece async for piece in form.pieces()])


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
async def test_fields_and_file_in_pieces_of_any_size(size: int) -> None:
    form = Form(pieces_of(WHOLE, size), KIND)
    await form.read_fields()
    assert form.fields == [("sha256", "ab"), ("note", "ü")]
    assert form.filename == "grün.zip"
    assert b"".join([piece async for piece in form.pieces()]) == b"\r\n--x\r\n" * 9


async def test_a_form_without_a_file() -> None:
    form = Form(pieces_of(part('name="a"', b"1") + b"--xx--\r\n", 9), KIND)
    await form.read_fields()
    assert form.filename is None


REFUSED = [
    (FILE + part('name="late"', b"1") + b"--xx--\r\n", "late", "Nothing follows the file"),
    (FILE, "body", "breaks off"),
    (part('name="a"', b"x" * 70_000) + FILE, "a", "longer than"),
    (b"nonsense" + FILE, "body", "cannot be read"),
    (b"", "body", "breaks off"),
]


@pytest.mark.parametrize(("body", "field", "words"), REFUSED)
async def test_what_is_no_such_form_is_refused(body: bytes, field: str, words: str) -> None:
    with pytest.raises(MeshError) as caught:
        await read(Form(pieces_of(body, 1000), KIND))
    (violation,) = caught.value.violations
    assert violation.field == field
    assert words in violation.description


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/mixed; boundary=x", ""])
def test_no_boundary(kind: str) -> None:
    with pytest.raises(MeshError, match="boundary"):
        Form(pieces_of(b"", 1), kind)
