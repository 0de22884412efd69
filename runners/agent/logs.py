"""What a job process prints, as log lines that are worth keeping."""

import re

MAX_LINE_BYTES = 8192
"""Longer lines are cut, as LogLine.message says."""

LINES_PER_SECOND, BURST = 200.0, 1000.0
"""What one job may say; the rest is counted and dropped."""

# Colours, cursor movements and erasures of a terminal.
_CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")


class LineCollector:
    """Turns bytes as they come into lines.

    A progress bar that redraws itself with carriage returns becomes the one line that was to be
    seen in the end. Memory is bounded, whatever is printed.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._returned = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without their ends and empty ones."""
        *complete, rest = data.split(b"\n")
        lines = []
        for piece in complete:
            self._add(piece)
            lines.append(self._take())
        self._add(rest)
        return [line for line in lines if line]

    def finish(self) -> list[str]:
        """What is left at the end of the output."""
        last = self._take()
        return [last] if last else []

    def _add(self, piece: bytes) -> None:
        first, *redrawn = piece.split(b"\r")
        self._write(first)
        for text in redrawn:
            self._returned = True
            self._write(text)

    def _write(self, text: bytes) -> None:
        if not text:
            return  # the cursor has gone back, but what stands there still stands
        if self._returned:
            self._line.clear()
            self._returned = False
        self._line += text[: max(0, 2 * MAX_LINE_BYTES - len(self._line))]

    def _take(self) -> str:
        text = _CONTROL.sub(b"", bytes(self._line)).rstrip()[:MAX_LINE_BYTES].decode(errors="replace")
        self._line.clear()
        self._returned = False
        return text.encode()[:MAX_LINE_BYTES].decode(errors="ignore")


class RateLimit:
    """A bucket of tokens that fills with time."""

    def __init__(self, now: float, rate: float = LINES_PER_SECOND, burst: float = BURST) -> None:
        """`rate` tokens a second, at most `burst` of them."""
        self._rate, self._burst = rate, burst
        self._tokens, self._filled = burst, now

    def allows(self, now: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
