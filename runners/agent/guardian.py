"""Kills a job's processes when the agent is gone: `python -I -S guardian.py`, one per job.

Standard input is a pipe from the agent. Its first line is the id of the job's process group,
which is its session's too, and a mark, an entry of the job's environment; "ready" is the answer.
When the pipe closes, for whatever reason, every process of the group or session, every one below
these, and every one that was started with the mark is killed: the mark finds those that went into
a session of their own and whose parents are dead already. A line "done" from the agent, when the
job has ended, does the same to leftovers. Only the standard library's fastest parts: it starts in
milliseconds and stays small.
"""

import contextlib
import os
import signal
import sys
import time

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.005


def members(leader: int, mark: bytes) -> set[int]:
    """Live processes of the group or session `leader`, marked ones, and all below; not this one."""
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
        if leader in (int(fields[2]), int(fields[3])) or _is_marked(name, mark):
            found.add(pid)
    while below := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= below
    return found - {os.getpid()}


def _is_marked(pid: str, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            return mark in file.read().split(b"\0")
    except OSError:
        return False  # gone, or somebody else's


def _listed() -> list[str]:
    try:
        return os.listdir("/proc")  # noqa: PTH208 - as for open
    except OSError:
        return []  # not Linux: the process group is all that can be found


def kill_all(leader: int, mark: bytes) -> None:
    """SIGKILL until nobody is left: a process may fork while it is being killed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        left = members(
            leader, mark
        )  # before the first kill: a dead parent no longer tells whose child one is
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
    leader, _, mark = sys.stdin.readline().strip().partition(" ")
    if not leader.isdecimal() or not mark:
        return  # the agent had no job for it
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    kill_all(int(leader), mark.encode())


if __name__ == "__main__":
    main()
