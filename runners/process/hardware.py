"""What a job runs on, and with which packages: what one needs to know to do the same again."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path


def hardware() -> list[str]:
    """CPU model with its cores, then each GPU with its memory. Touches no CUDA context."""
    return [_cpu(), *_gpus()]


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of those of `packages` that are there, and Python's."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), model)
    return f"{model} ({len(os.sched_getaffinity(0))} cores)"


def _gpus() -> list[str]:
    import pynvml  # here, so that a zygote holds no handle on the driver

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: object) -> str:
    import pynvml

    memory_gib = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30
    return f"{pynvml.nvmlDeviceGetName(handle)} ({memory_gib:.0f} GiB)"
