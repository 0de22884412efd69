"""What a job process prints becomes lines that are worth keeping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.agent.logs import MAX_LINE_BYTES, LineCollector, RateLimit


def collect(*pieces: bytes) -> list[str]:
    collector = LineCollector()
    lines = [line for piece in pieces for line in collector.feed(piece)]
    return lines + collector.finish()


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        pytest.param(b"one\ntwo\n", ["one", "two"], id="lines"),
        pytest.param(b"one\n\n   \ntwo", ["one", "two"], id="empty lines are dropped, the last needs no end"),
        pytest.param(b"dos\r\nlines\r\n", ["dos", "lines"], id="carriage return and line feed"),
        pytest.param(b" 1%\r 50%\r100%\n", ["100%"], id="a progress bar is its last state"),
        pytest.param(b"\r 1%\r 50%\r100%\r\nnext\n", ["100%", "next"], id="bar that returns before its end"),
        pytest.param(b"\x1b[1;31mred\x1b[0m\x1b[K\n", ["red"], id="colours are dropped"),
        pytest.param(b"\xff\xfe caf\xc3\xa9\n", ["\ufffd\ufffd café"], id="bytes that are no text"),
        pytest.param(b"    indented\n", ["    indented"], id="indentation is kept"),
    ],
)
def test_lines(printed: bytes, lines: list[str]):
    assert collect(printed) == lines
    assert collect(*(bytes([byte]) for byte in printed)) == lines, "the same when it comes byte by byte"


def test_a_long_line_is_cut_and_the_next_is_whole():
    first, second = collect(b"x" * 100_000 + b"\nnext\n")
    assert first == "x" * MAX_LINE_BYTES
    assert second == "next"


@given(st.lists(st.binary(max_size=200)))
def test_how_the_bytes_are_cut_does_not_matter_and_lines_fit(pieces: list[bytes]):
    lines = collect(*pieces)
    assert lines == collect(b"".join(pieces))
    assert all(0 < len(line.encode()) <= MAX_LINE_BYTES for line in lines)
    assert not any("\n" in line for line in lines)


def test_memory_stays_bounded_without_line_ends():
    collector = LineCollector()
    for _ in range(100):
        assert collector.feed(b"x" * 65536) == []
    assert collector.finish() == ["x" * MAX_LINE_BYTES]


def test_the_rate_is_limited_after_a_burst_and_recovers():
    limit = RateLimit(0.0, rate=10, burst=3)
    assert [limit.allows(0.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.allows(0.1) for _ in range(2)] == [True, False]
    assert [limit.allows(100.0) for _ in range(4)] == [True, True, True, False]
