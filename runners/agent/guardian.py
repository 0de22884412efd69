"""Kills a job's processes when the agent is gone: `python -I -S guardian.py`, one per job.

Standard input is a pipe from the agent. Its first line is the id of the job's process group,
which is its session's too; "ready" is the answer. When the pipe closes, for whatever reason, every
process of the group, of the session, and below one of these is killed. A line "done" from the
agent, when the job has ended, does the same to leftovers. Only the standard library's
fastest parts: it starts in milliseconds and stays small.
"""

import contextlib
import os
import signal
import sys
import time

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.005


def members(leader: int) -> set[int]:
    """Live processes of the group or session `leader`, and all below them; this process is none."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for name in _listed():
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - pathlib's import takes longer than all the rest
                # pid (name) state ppid pgrp session ...; the name may hold anything.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] in (b"Z", b"X"):
            continue
        pid = int(name)
        parents[pid] = int(fields[1])
        if leader in (int(fields[2]), int(fields[3])):
            found.add(pid)
    while below := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= below
    return found - {os.getpid()}


def _listed() -> list[str]:
    try:
        return os.listdir("/proc")  # noqa: PTH208 - as for open
    except OSError:
        return []  # not Linux: the process group is all that can be found


def kill_all(leader: int) -> None:
    """SIGKILL until nobody is left: a process may fork while it is being killed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        left = members(leader)  # before the first kill: a dead parent no longer tells whose child one is
        with contextlib.suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(_PAUSE_SECONDS)


def main() -> None:
    """Wait for the agent's end or its word."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it must outlive the agent, whatever reaches both
    line = sys.stdin.readline()
    if not line.strip().isdecimal():
        return  # the agent had no job for it
    leader = int(line)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    kill_all(leader)


if __name__ == "__main__":
    main()
