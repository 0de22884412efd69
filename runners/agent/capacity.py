"""What this runner has in all."""

import os

import psutil

from runners.agent.gpus import Gpus
from visionmesh.v1 import runner_pb2


def capacity(slots: int, gpus: Gpus) -> runner_pb2.RunnerCapacity:
    """Cores that this process may use, memory, GPUs, and `slots` jobs at a time."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return runner_pb2.RunnerCapacity(
        slots=slots, cpus=cores, memory_bytes=psutil.virtual_memory().total, gpus=gpus.describe()
    )
