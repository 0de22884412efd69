"""Delimited messages survive any cut of the stream, and foreign bytes are refused."""

import io

import pytest
from google.protobuf import proto
from hypothesis import given
from hypothesis import strategies as st

from runners.process.framing import MAX_MESSAGE_BYTES, Decoder, FramingError, encode
from visionmesh.v1 import process_pb2, progress_pb2

LINES = st.lists(st.text(max_size=300), max_size=8)


def event(line: str) -> process_pb2.ProcessEvent:
    log_line = progress_pb2.LogLine(level=progress_pb2.LOG_LEVEL_INFO, message=line)
    return process_pb2.ProcessEvent(progress=progress_pb2.ProgressUpdate(log_line=log_line))


@given(LINES, st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(lines: list[str], data: st.DataObject) -> None:
    sent = [event(line) for line in lines]
    stream = b"".join(encode(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder = Decoder(process_pb2.ProcessEvent)
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])
    assert received == sent
    assert decoder.pending_bytes == 0


@given(LINES)
def test_the_format_is_that_of_protobuf(lines: list[str]) -> None:
    stream = io.BytesIO(b"".join(encode(event(line)) for line in lines))
    for line in lines:
        assert proto.parse_length_prefixed(process_pb2.ProcessEvent, stream) == event(line)


def test_a_message_that_was_cut_short_shows() -> None:
    decoder = Decoder(process_pb2.ProcessEvent)
    assert decoder.feed(encode(event("a"))[:-1]) == []
    assert decoder.pending_bytes > 0


def test_an_empty_message_is_a_message() -> None:
    decoder = Decoder(process_pb2.ProcessCommand)
    assert decoder.feed(b"\x00\x00") == [process_pb2.ProcessCommand()] * 2


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"\x80\x80\x80\x80\x80\x01", "5 bytes"),
        (b"\xff\xff\xff\xff\x0f", "limit"),
        (b"\x03\xff\xff\xff", "cannot be decoded"),
    ],
)
def test_foreign_bytes_are_refused(stream: bytes, complaint: str) -> None:
    with pytest.raises(FramingError, match=complaint):
        Decoder(process_pb2.ProcessEvent).feed(stream)


def test_a_message_that_nobody_could_read_is_not_written() -> None:
    with pytest.raises(FramingError, match="above the limit"):
        encode(event("x" * (MAX_MESSAGE_BYTES + 1)))
