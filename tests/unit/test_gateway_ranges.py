"""Which bytes a request asks for, as RFC 9110 has it."""

import pytest

from gateway.ranges import File, Span, Unsatisfiable, is_known, span_of

FILE = File(10, '"abc"')

SPANS = [
    ({}, None),
    ({"range": "bytes=0-"}, Span(0, 10)),
    ({"range": "bytes=3-5"}, Span(3, 6)),
    ({"range": "bytes=3-99"}, Span(3, 10)),
    ({"range": "bytes=9-9"}, Span(9, 10)),
    ({"range": "bytes=-4"}, Span(6, 10)),
    ({"range": "bytes=-99"}, Span(0, 10)),
    ({"range": "bytes= 3 - 5"}, Span(3, 6)),
    ({"range": "bytes=0-1,3-4"}, None),
    ({"range": "bytes=5-3"}, None),
    ({"range": "bytes=-"}, None),
    ({"range": "lines=1-2"}, None),
    ({"range": "bytes=3-5", "if-range": '"abc"'}, Span(3, 6)),
    ({"range": "bytes=3-5", "if-range": '"other"'}, None),
    ({"range": "bytes=3-5", "if-range": 'W/"abc"'}, None),
    ({"range": "bytes=3-5", "if-range": "Sat, 01 Jan 2000 00:00:00 GMT"}, None),
]


@pytest.mark.parametrize(("headers", "span"), SPANS)
def test_span(headers: dict[str, str], span: Span | None) -> None:
    assert span_of(headers, FILE) == span


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_no_byte_of_it(asked: str) -> None:
    with pytest.raises(Unsatisfiable):
        span_of({"range": asked}, FILE)


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-5"])
def test_an_empty_file_has_no_range(asked: str) -> None:
    with pytest.raises(Unsatisfiable):
        span_of({"range": asked}, File(0, '"abc"'))


@pytest.mark.parametrize(
    ("known", "same"),
    [('"abc"', True), ('W/"abc"', True), ('"x", "abc"', True), ("*", True), ('"x"', False), ("", False)],
)
def test_a_file_that_is_known(known: str, same: bool) -> None:
    assert is_known({"if-none-match": known}, FILE) is same
