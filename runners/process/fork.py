"""What turns a freshly forked copy of the zygote into a job process of its own."""

import atexit
import contextlib
import ctypes
import gc
import logging
import multiprocessing.util
import os
import random
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

OUTPUT_FD, COMMANDS_FD, EVENTS_FD = 1, 3, 4
"""Where a forked job process finds its descriptors; standard error is the same as OUTPUT_FD."""

_FIRST_FREE_FD = 5
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 500  # the kernel takes the job before its agent and before the zygote


def dies_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent, `parent`, does; False if it is gone already.

    Only a second belt behind the guardian: the signal does not reach children of this process,
    and other systems than Linux have none.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def prefer_for_oom_kill() -> None:
    """Let the kernel choose this process first when memory runs out; no core dumps either."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def take_descriptors(events: int, commands: int, output: int) -> None:
    """Put the three descriptors to their places, nothing on standard input, and close all others."""
    null = os.open(os.devnull, os.O_RDONLY)
    # First out of the way: one of them may lie where another belongs.
    high = [_above(fd) for fd in (null, output, output, commands, events)]
    for place, fd in enumerate(high):
        os.dup2(fd, place, inheritable=place < COMMANDS_FD)
    os.closerange(_FIRST_FREE_FD, os.sysconf("SC_OPEN_MAX"))


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)


def take_environment(environ: Mapping[str, str], kept: Mapping[str, str], cwd: str) -> None:
    """Have exactly `environ`, and `kept` over it: what the framework set for itself when it was imported."""
    os.environ.clear()
    os.environ.update({**environ, **kept})
    tempfile.tempdir = None  # cached from the zygote's environment
    os.chdir(cwd)


def forget_parent() -> None:
    """Drop what must not be shared with the parent: signal handlers, exit handlers, random states."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python starts: a closed pipe is an exception
    atexit._clear()
    _reseed()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _reseed() -> None:
    """Give every global generator that is loaded a state of its own; without importing any."""
    random.seed()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()  # the one of the CPU: CUDA's are made after the fork


def leave(code: int) -> NoReturn:
    """End the process as Python would, but for the exit handlers of the zygote."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        multiprocessing.util._exit_function()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:  # whatever happens here, the zygote's code must not go on running
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"at exit: {error!r}\n")
            sys.stderr.flush()
    finally:
        os._exit(code)


def settle_before_fork() -> None:
    """Make the memory that children will share stay shared: nothing is collected, nothing half written."""
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()
    gc.freeze()
