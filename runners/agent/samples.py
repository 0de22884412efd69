"""Load of a job's processes and of the machine."""

import contextlib
import time

import psutil

from runners.agent.gpus import Gpus
from visionmesh.v1 import progress_pb2

SAMPLE_SECONDS = 5.0
"""Time from one sample to the next."""


class Sampler:
    """Measures one job's processes: the one with `pid` and all below it."""

    def __init__(self, pid: int, gpus: Gpus) -> None:
        self._pid, self._gpus = pid, gpus
        self._cpu_seconds: dict[int, float] = {}
        self._measured = time.monotonic()

    def sample(self) -> progress_pb2.SystemSample:
        """The load since the sample before; blocks for some milliseconds."""
        now = time.monotonic()
        seconds, memory = self._processes()
        used = sum(spent - self._cpu_seconds.get(pid, 0.0) for pid, spent in seconds.items())
        cores = max(0.0, used) / max(now - self._measured, 1e-3)
        self._cpu_seconds, self._measured = seconds, now
        return progress_pb2.SystemSample(
            cpu_cores=cores,
            memory_bytes=memory,
            memory_available_bytes=psutil.virtual_memory().available,
            gpus=self._gpus.sample(),
        )

    def _processes(self) -> tuple[dict[int, float], int]:
        """CPU seconds spent by each process, and the resident bytes of all."""
        seconds: dict[int, float] = {}
        memory = 0
        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(self._pid)
            for process in [leader, *leader.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                    seconds[process.pid] = times.user + times.system
        return seconds, memory
