"""The GPUs of this machine as the driver tells them, with no framework and no CUDA context."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pynvml

from visionmesh.v1 import progress_pb2, runner_pb2

_MIB = 1024 * 1024


class Gpus:
    """What the agent may use: all GPUs, or those that CUDA_VISIBLE_DEVICES leaves."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Without a driver there are none."""
        self._handles: dict[int, Any] = {}
        try:
            pynvml.nvmlInit()
            for index in _visible(pynvml.nvmlDeviceGetCount(), environ.get("CUDA_VISIBLE_DEVICES")):
                self._handles[index] = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError:
            self._handles.clear()

    def describe(self) -> Iterator[runner_pb2.Gpu]:
        """Each GPU with its memory."""
        for index, handle in self._handles.items():
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            yield runner_pb2.Gpu(
                index=index, model=_text(pynvml.nvmlDeviceGetName(handle)), memory_mib=memory.total // _MIB
            )

    def sample(self) -> Iterator[progress_pb2.GpuSample]:
        """The load of each GPU at this moment; one that does not answer is left out."""
        for index, handle in self._handles.items():
            try:
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            except pynvml.NVMLError:
                continue
            yield progress_pb2.GpuSample(
                index=index,
                utilization=busy / 100,
                memory_used_bytes=memory.used,
                memory_total_bytes=memory.total,
            )


def _visible(count: int, shown: str | None) -> list[int]:
    """Indices that CUDA_VISIBLE_DEVICES leaves; it may also name GPUs by UUID, which is not read here."""
    if shown is None or (shown.strip() and not all(part.strip().isdecimal() for part in shown.split(","))):
        return list(range(count))
    return sorted({int(part) for part in shown.split(",") if part.strip() and int(part) < count})


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
