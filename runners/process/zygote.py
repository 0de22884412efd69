"""A process that has imported a framework and forks a job process from itself in milliseconds.

`python -m runners.process.zygote FRAMEWORK CONTROL_FD`, by exec, from the agent. CONTROL_FD is a
SOCK_SEQPACKET socket; each packet is a JSON object.

    zygote -> agent   {"ready": pid}
    agent  -> zygote  {"id": 1, "environ": {...}, "cwd": "..."} with three descriptors attached:
                      events (write), commands (read), output (write)
    job    -> agent   {"id": 1, "started": pid}    it leads its own session by then
    zygote -> agent   {"id": 1, "exited": status}  as waitpid tells it

The zygote ends when its socket closes. It never has a second thread, gRPC or a CUDA context:
none of them survives a fork.
"""

import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from runners.framework import Framework
from runners.process import entry, fork
from runners.process.spawned import framework_of

MAX_PACKET_BYTES = 192 * 1024
"""Largest packet; what a socket buffer takes as Linux is set up."""

DESCRIPTORS = 3
"""Descriptors that come with a request."""


class NotForkable(Exception):
    """Something in the process does not survive a fork."""


class Zygote:
    """Forks job processes of one framework on request."""

    def __init__(self, framework: Framework, control: socket.socket) -> None:
        self._framework, self._control = framework, control
        self._jobs: dict[int, int] = {}
        self._kept: dict[str, str] = {}
        self._woken, self._wake = socket.socketpair()

    def prepare(self) -> None:
        """Import the framework. Raises NotForkable if it left a thread, gRPC or a CUDA context behind."""
        before = dict(os.environ)
        self._framework.preload()
        self._kept = {name: value for name, value in os.environ.items() if before.get(name) != value}
        check_forkable()
        fork.settle_before_fork()

    def serve(self) -> None:
        """Fork and report until the agent is gone."""
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._send({"ready": os.getpid()})
        # poll() and not epoll: it has no descriptor that a child would share.
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._woken.fileno() in ready:
                self._reap()
            if self._control.fileno() in ready and not self._take():
                return

    def _take(self) -> bool:
        """Take one request; False when the agent is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MAX_PACKET_BYTES, DESCRIPTORS)
        except ConnectionError:
            return False
        if not data:
            return False
        request = json.loads(data)
        pid = os.fork()
        if pid == 0:
            self._become(request, fds)
        self._jobs[pid] = request["id"]
        for fd in fds:
            os.close(fd)
        return True

    def _become(self, request: Mapping[str, Any], fds: list[int]) -> NoReturn:
        """In the child: become the job process. Nothing returns from here into the zygote's code."""
        code = 1
        try:
            zygote = os.getppid()
            os.setsid()
            signal.set_wakeup_fd(-1)
            if not fork.dies_with_parent(zygote):
                os._exit(code)
            self._send({"id": request["id"], "started": os.getpid()})
            fork.take_descriptors(*fds)
            environ = {
                **request["environ"],
                "EVENTS_FD": str(fork.EVENTS_FD),
                "COMMANDS_FD": str(fork.COMMANDS_FD),
            }
            fork.take_environment(environ, self._kept, request["cwd"])
            fork.forget_parent()
            fork.prefer_for_oom_kill()
            code = entry.run_job(self._framework)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:  # as Python would at the end of a program
            traceback.print_exc()
        fork.leave(code)

    def _reap(self) -> None:
        """Report every child that has ended."""
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            job = self._jobs.pop(pid, None)
            if job is not None:
                self._send({"id": job, "exited": status})

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except ConnectionError:
            sys.exit(0)  # the agent is gone


def check_forkable() -> None:
    """Raises NotForkable, naming what a child could not live with."""
    task = Path("/proc/self/task")
    threads = len(list(task.iterdir())) if task.exists() else 1
    if threads != 1:
        raise NotForkable(f"the framework's import left {threads} threads; a fork keeps only one")
    if any(name == "grpc" or name.startswith("grpc.") for name in sys.modules):
        raise NotForkable("the framework's import brought gRPC, which does not survive a fork")
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise NotForkable("the framework's import initialised CUDA, which does not survive a fork")


def main() -> None:
    """Serve until the agent closes the socket."""
    name, fd = sys.argv[1:]
    control = socket.socket(fileno=int(fd))
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to answer
    zygote = Zygote(framework_of(name), control)
    zygote.prepare()
    try:
        zygote.serve()
    finally:
        signal.set_wakeup_fd(-1)  # jobs die with the agent: their signals must not find a closed socket


if __name__ == "__main__":
    main()
    fork.leave(0)  # not as Python ends: what native modules then say about leaks would fill the agent's log
