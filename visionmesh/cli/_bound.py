"""Becomes a program that ends with us: `python -I -S _bound.py PARENT PROGRAM ARGUMENT…`.

PARENT is the id of the process that starts it. The kernel sends SIGTERM when that one is gone, even
if it was killed. Only the standard library's fastest parts: it costs a few milliseconds.
"""

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, then become the program."""
    parent, program, *arguments = sys.argv[1:]
    with contextlib.suppress(AttributeError):  # not Linux: the program outlives a parent that is killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it was gone before the kernel knew
        sys.exit(1)
    os.execv(program, [program, *arguments])  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main()
