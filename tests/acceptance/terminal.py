"""A real terminal: a shell in a pseudo-terminal, and a screen that shows what a person would see."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

import pexpect
import pyte

COLUMNS, LINES = 100, 40
PATIENCE = 240.0  # seconds; a training may have to share its two cores
PROMPT = "$ "
_ROOM = 2000  # lines that the emulated screen has: nothing scrolls away
_PIECE = 65536
_LOOK_EVERY = 0.1  # seconds to wait for something new on the screen


class Terminal:
    """A shell with its screen."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._screen = pyte.Screen(COLUMNS, _ROOM)
        self._stream = pyte.ByteStream(self._screen)
        self._shown = 0
        self._shell = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "-i"],
            cwd=str(folder),
            env={**os.environ, "TERM": "xterm-256color", "PS1": PROMPT, "PS2": "> "} | environment,
            dimensions=(LINES, COLUMNS),
            encoding=None,
        )
        self.until(re.compile(r"\$ $"), 20)
        self._shown = self._screen.cursor.y

    def type(self, command: str) -> None:
        """Type a line and press Enter."""
        self._shell.send(command + "\r")

    def press(self, key: str) -> None:
        """Press a key with Ctrl."""
        self._shell.sendcontrol(key)

    def until(self, pattern: "re.Pattern[str]", timeout: float) -> "re.Match[str]":
        """Wait until `pattern` is on the part of the screen that has not been taken yet."""
        deadline = time.monotonic() + timeout
        while (found := pattern.search(self.now())) is None:
            assert time.monotonic() < deadline, f"{pattern.pattern!r} did not appear:\n{self.now()}"
            self._read(_LOOK_EVERY)
        return found

    def run(self, command: str, timeout: float = PATIENCE) -> str:
        """Type a line, wait for the prompt, and take what is on the screen."""
        self.type(command)
        return self.prompt(timeout)

    def prompt(self, timeout: float = PATIENCE) -> str:
        """Wait for the prompt, and take what is on the screen."""
        self.until(re.compile(r"\n\$ $"), timeout)
        return self.take()

    def now(self) -> str:
        """What is on the screen and has not been taken."""
        cursor = self._screen.cursor
        lines = [self._line(number) for number in range(self._shown, cursor.y + 1)]
        lines[-1] = lines[-1].ljust(cursor.x)  # blanks that somebody typed, or the prompt's
        return "\n".join(lines)

    def take(self) -> str:
        """What is on the screen above the prompt, from the line of the last command on."""
        seen = self.now().removesuffix("\n" + PROMPT)
        self._shown = self._screen.cursor.y
        return seen

    def close(self) -> None:
        """Hang up."""
        self._shell.close(force=True)

    def _read(self, timeout: float) -> None:
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            self._stream.feed(self._shell.read_nonblocking(_PIECE, timeout))

    def _line(self, number: int) -> str:
        # Of 2,000 lines only a few are looked at: the screen's own `display` would take a whole core.
        row = self._screen.buffer[number]
        return "".join(row[column].data for column in range(COLUMNS)).rstrip()
