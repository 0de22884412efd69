"""Processes that train one network together, each with its share of every batch.

The job process is rank 0. It starts the others, which are told by the variables of torchrun who they are,
and is the only one that speaks to the agent and writes files. Gradients are averaged by PyTorch's
DistributedDataParallel, over NCCL between GPUs and over gloo between processes on a CPU.

The others live and die with rank 0: it kills them when it stops, and they are of its session, so that a
guardian finds them. Where one of them fails, rank 0 ends with that one's error.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from runners.process.errors import Ended, Ending
from runners.process.framing import Decoder
from visionmesh.v1 import process_pb2, progress_pb2, vision_pb2

PARENT_VARIABLE, REPORT_VARIABLE = "VISIONMESH_RANK_PARENT", "VISIONMESH_RANK_REPORT"
STORE_VARIABLE, DEVICE_VARIABLE = "VISIONMESH_RANK_STORE", "VISIONMESH_RANK_DEVICE"

_TIMEOUT = timedelta(minutes=10)
_LOOK_SECONDS = 0.1
_REPORT_SECONDS = 10.0
_LEAVE_SECONDS = 30.0
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this one is."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    """What this one computes on."""

    @property
    def leads(self) -> bool:
        """Whether this is the one that tells and writes."""
        return self.rank == 0

    def share(self, batch: Sequence[int]) -> tuple[list[int], float]:
        """What of a batch is this process's, and how much its mean loss counts in the mean of all.

        DistributedDataParallel averages over processes, and shares may differ in size: with this weight the
        average is the mean over the batch. A process without a share computes one image in vain.
        """
        mine = list(batch[self.rank :: self.count])
        return mine or [batch[0]], len(mine) * self.count / len(batch)

    def wrap(self, network: nn.Module) -> nn.Module:
        """`network` with the weights of rank 0, and gradients that are averaged."""
        if self.count == 1:
            return network
        devices = [self.device] if self.device.startswith("cuda") else None
        wrapped: nn.Module = nn.parallel.DistributedDataParallel(network, device_ids=devices)
        return wrapped

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, element by element."""
        if self.count == 1:
            return numbers
        there = numbers.to(self.device)
        dist.all_reduce(there)
        return there.to(numbers.device)

    def tell(self, what: object = None) -> Any:
        """What rank 0 tells, everywhere."""
        told = [what]
        if self.count > 1:
            dist.broadcast_object_list(told, device=torch.device(self.device))
        return told[0]


@contextmanager
def together(devices: Sequence[str], work: str, folder: Path, poll: Callable[[], None]) -> Iterator[Ranks]:
    """Have one process for each of `devices`; this one is the first.

    The others call `work`, "module:function", with their Ranks. `folder` is for files that are gone at
    the end. `poll` is called while they start; what it raises passes on. Raises Ended with the error of
    one of the others.
    """
    if len(devices) == 1:
        yield Ranks(device=devices[0])
        return
    others = _Others(devices, work, folder)
    try:
        others.wait_until_ready(poll)
        yield join(0, len(devices), devices[0], folder / "store")
        dist.destroy_process_group()
        others.wait_until_gone()
    except RuntimeError as error:
        cause = others.cause_of_failure()
        if cause is None:
            raise
        raise cause from error
    finally:
        others.kill()
        if dist.is_initialized():
            dist.destroy_process_group()
        shutil.rmtree(folder, ignore_errors=True)


def join(rank: int, count: int, device: str, store: Path) -> Ranks:
    """Meet the other processes. Raises RuntimeError if they do not come."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    if name := _LOOPBACK.get(sys.platform):  # all are on this machine, and nobody else may listen
        os.environ |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=dist.FileStore(str(store), count),
        rank=rank,
        world_size=count,
        timeout=_TIMEOUT,
    )
    return Ranks(rank, count, device)


def leave() -> None:
    """Part from the other processes."""
    dist.destroy_process_group()


@dataclass
class _Other:
    """One of the other processes."""

    rank: int
    process: "subprocess.Popen[bytes]"
    report: int
    """File descriptor of what it reports."""

    decoder: "Decoder[process_pb2.ProcessEvent]" = field(
        default_factory=lambda: Decoder(process_pb2.ProcessEvent)
    )
    is_ready: bool = False
    ended: progress_pb2.AttemptEnded | None = None

    def hear(self, seconds: float) -> bool:
        """Read what it reports; False when there is nothing more."""
        if not select.select([self.report], [], [], seconds)[0]:
            return True
        data = os.read(self.report, 65536)
        for event in self.decoder.feed(data):
            self.is_ready |= event.progress.HasField("attempt_started")
            self.ended = event.ended if event.HasField("ended") else self.ended
        return bool(data)

    @property
    def failed(self) -> bool:
        return self.ended is not None and self.ended.outcome != vision_pb2.ATTEMPT_STATE_SUCCEEDED


class _Others:
    """All processes but this one."""

    def __init__(self, devices: Sequence[str], work: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._all = [_start(rank, devices, work, folder) for rank in range(1, len(devices))]

    def wait_until_ready(self, poll: Callable[[], None]) -> None:
        """Until all have imported what they need. Raises RuntimeError if one does not get there."""
        for other in self._all:
            while not other.is_ready:
                poll()
                if not other.hear(_LOOK_SECONDS):
                    raise RuntimeError("a process ended before it was ready")

    def wait_until_gone(self) -> None:
        """Until all have ended by themselves; one that does not is killed later."""
        until = time.monotonic() + _LEAVE_SECONDS
        for other in self._all:
            with suppress(subprocess.TimeoutExpired):
                other.process.wait(max(0.0, until - time.monotonic()))

    def cause_of_failure(self) -> Exception | None:
        """Why one of the others failed; None if none has.

        When one process goes, the others lose their connections: what they say of that is no cause.
        """
        until = time.monotonic() + _REPORT_SECONDS
        while time.monotonic() < until and not any(self._heard(other) for other in self._all):
            pass
        for other in self._all:  # the cause was reported before its consequences, perhaps after we looked
            other.hear(0)
        for other in self._all:
            if other.ended is not None and other.failed and not _is_consequence(other.ended):
                ended = other.ended
                return Ended(Ending(ended.outcome, ended.cause, ended.error))
        for other in self._all:
            code = other.process.poll()
            if code and not other.failed:
                total = len(self._all) + 1
                return RuntimeError(f"process {other.rank} of {total} {_how(code)}")
        return None

    def _heard(self, other: _Other) -> bool:
        """Whether it has reported a failure, or died."""
        if other.hear(_LOOK_SECONDS):
            return other.failed
        with suppress(subprocess.TimeoutExpired):
            other.process.wait(1)
        return True

    def kill(self) -> None:
        """End those that are left."""
        for other in self._all:
            if other.process.poll() is None:
                other.process.kill()
            other.process.wait()
            os.close(other.report)


def _start(rank: int, devices: Sequence[str], work: str, folder: Path) -> _Other:
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "runners.pytorch.rank", work],
            stdin=subprocess.DEVNULL,
            pass_fds=(write,),
            env=_environment(rank, devices, folder, write),
        )
    finally:
        os.close(write)
    return _Other(rank, process, read)


def _environment(rank: int, devices: Sequence[str], folder: Path, report: int) -> Mapping[str, str]:
    """The environment of this process, without the way to the agent."""
    own = {name: value for name, value in os.environ.items() if name not in {"EVENTS_FD", "COMMANDS_FD"}}
    return own | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(devices)),
        PARENT_VARIABLE: str(os.getpid()),
        REPORT_VARIABLE: str(report),
        STORE_VARIABLE: str(folder / "store"),
        DEVICE_VARIABLE: devices[rank],
    }


def _is_consequence(ended: progress_pb2.AttemptEnded) -> bool:
    words = ended.error.message.lower()
    framework = ended.cause == vision_pb2.ATTEMPT_CAUSE_FRAMEWORK_ERROR
    return framework and any(word in words for word in ("gloo", "nccl", "connection", "distributed"))


def _how(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
