"""Trainings of timm by two processes that share each batch: real job processes, over gloo."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import torch

from runners.agent.job_environment import base_environment
from runners.agent.job_process import JobProcess
from runners.agent.launcher import ZygoteLauncher
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.process.framing import Decoder
from runners.pytorch import device
from runners.pytorch.ranks import Ranks
from runners.timm import data
from visionmesh.shapes import write_class_folders
from visionmesh.v1 import process_pb2, vision_pb2

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

DEADLINE = 180.0
QUICK = {"scale_min": 0.8, "color_jitter": 0.1, "smoothing": 0.0, "weight_decay": 0.0}
Event = process_pb2.ProcessEvent


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """93 images: the last batch of 8 has 5, which two processes cannot share evenly."""
    folder = tmp_path_factory.mktemp("shapes")
    write_class_folders(folder, train=93, val=33, test=0)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def zygote() -> AsyncIterator[ZygoteLauncher]:
    launcher = ZygoteLauncher("timm", base_environment())
    try:
        await launcher.start()
        yield launcher
    finally:
        await launcher.close()


class Job:
    """A training that runs, and what it has said so far."""

    def __init__(self, process: JobProcess) -> None:
        self.process, self.events = process, list[Event]()
        self._decoder = Decoder(Event)

    async def until_epoch(self, number: int) -> None:
        while not any(epoch.epoch == number for epoch in self.updates("epoch_completed")):
            assert await self._more(), self.events[-1:]

    async def until_end(self) -> Any:
        while await self._more():
            pass
        return self.events[-1].ended

    async def _more(self) -> bool:
        async with asyncio.timeout(DEADLINE):
            read = await self.process.events.read(65536)
        self.events += self._decoder.feed(read)
        return bool(read)

    def updates(self, name: str) -> list[Any]:
        told = (event.progress for event in self.events if event.HasField("progress"))
        return [getattr(update, name) for update in told if update.HasField(name)]

    def others(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.asynccontextmanager
async def training(
    zygote: ZygoteLauncher, dataset: Path, output: Path, processes: int, **settings: Any
) -> AsyncIterator[Job]:
    values: dict[str, Any] = {
        "model_name": "test_efficientnet_gn",
        "epochs": 5,
        "batch_size": 8,
        "image_size": 64,
        "learning_rate": 2e-3,
        "cpu_threads": 1,
        "device": "cpu",
        "hyperparameters": {**QUICK, "processes": processes},
    }
    told = JobEnvironment(dataset_path=dataset, output_path=output, **{**values, **settings})
    output.mkdir()  # noqa: ASYNC240 - at once
    process = await zygote.launch({**base_environment(), **told.to_environ()}, output)
    drain = asyncio.create_task(process.output.read())
    try:
        process.start()
        yield Job(process)
    finally:
        process.kill()
        await drain
        process.close()


async def test_two_processes_learn_just_as_one_does(
    zygote: ZygoteLauncher, shapes: Path, tmp_path: Path
) -> None:
    told = {}
    for processes in (1, 2):
        async with training(zygote, shapes, tmp_path / str(processes), processes) as job:
            await job.until_epoch(1)
            assert len(job.others()) == processes - 1
            ended = await job.until_end()
            assert ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED, ended.error
            told[processes] = [dict(epoch.metrics) for epoch in job.updates("epoch_completed")]
    print(
        "train_loss of one and of two:",
        *(
            f"{one['train_loss']:.5f}/{two['train_loss']:.5f}"
            for one, two in zip(*told.values(), strict=True)
        ),
    )
    assert len(told[2]) == 5
    for one, two in zip(told[1], told[2], strict=True):
        assert two == pytest.approx(one, rel=0.02, abs=0.04)
    for name in ("train_loss", "val_loss"):  # before rounding adds up
        assert told[2][0][name] == pytest.approx(told[1][0][name], rel=1e-4)
    assert told[2][-1]["accuracy_top1"] > 0.9
    assert not (tmp_path / "2" / "ranks").exists()


async def test_a_process_that_dies_ends_the_attempt_and_is_named(
    zygote: ZygoteLauncher, shapes: Path, tmp_path: Path
) -> None:
    async with training(zygote, shapes, tmp_path / "out", 3, epochs=1000) as job:
        await job.until_epoch(1)
        others = job.others()
        others[1].kill()
        ended = await job.until_end()
        assert ended.outcome == vision_pb2.ATTEMPT_STATE_FAILED
        assert ended.cause == vision_pb2.ATTEMPT_CAUSE_FRAMEWORK_ERROR
        assert "of 3 died of SIGKILL" in ended.error.message
        psutil.wait_procs(others, timeout=20)
        assert not any(process.is_running() for process in others)


async def test_the_others_go_with_the_first_even_if_it_is_killed(
    zygote: ZygoteLauncher, shapes: Path, tmp_path: Path
) -> None:
    async with training(zygote, shapes, tmp_path / "out", 2, epochs=1000) as job:
        await job.until_epoch(1)
        others = job.others()
        assert [os.getsid(process.pid) for process in others] == [job.process.pid]
        os.kill(job.process.pid, signal.SIGKILL)
        psutil.wait_procs(others, timeout=20)
        assert not any(process.is_running() for process in others)


async def test_what_another_process_cannot_read_is_told_as_if_the_first_had_tried(
    zygote: ZygoteLauncher, tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    write_class_folders(dataset, train=16, val=3, test=0)
    found = data.split(dataset, "train", lambda picture: picture)._found
    order = torch.randperm(len(found), generator=data.seed(0, 1)).tolist()
    victim, _ = found[order[1]]  # of the first batch, the first one of the second process
    victim.write_bytes(victim.read_bytes()[:300])
    async with training(zygote, dataset, tmp_path / "out", 2) as job:
        ended = await job.until_end()
    assert ended.cause == vision_pb2.ATTEMPT_CAUSE_USER_ERROR, ended
    assert f"{victim.parent.name}/{victim.name} cannot be read" in ended.error.message


async def test_a_batch_that_is_too_small_to_share_is_refused(
    zygote: ZygoteLauncher, shapes: Path, tmp_path: Path
) -> None:
    async with training(zygote, shapes, tmp_path / "out", 4, batch_size=3) as job:
        ended = await job.until_end()
    assert "4 processes cannot share a batch of 3 images" in ended.error.message


@pytest.mark.parametrize(("images", "count"), [(8, 2), (5, 2), (7, 3), (1, 3), (2, 2)])
async def test_shares_make_up_the_batch_and_weigh_as_they_should(images: int, count: int) -> None:
    losses = [float(index * index + 1) for index in range(images)]
    mean, seen = 0.0, []
    for rank in range(count):
        share, weight = Ranks(rank, count).share(range(images))
        mean += weight * sum(losses[index] for index in share) / len(share) / count
        seen += share if weight else []
    assert sorted(seen) == list(range(images))
    assert mean == pytest.approx(sum(losses) / images)


async def test_gpus_are_one_device_each_and_more_than_can_be_used_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert device.each("cuda:0,1") == ["cuda:0", "cuda:1"]
    assert device.each("cpu") == ["cpu"]
    with pytest.raises(UserError, match="asks for 2 GPUs, and this framework uses one"):
        device.choose(None, 2)
    with pytest.raises(UserError, match="there are 0 GPUs here"):
        device.choose("cuda:0,1", several=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.choose(None, 2, several=True) == "cuda:0,1"
    assert device.choose("cuda:1", 2, several=True) == "cuda:1"
    with pytest.raises(UserError, match="uses one GPU for a job of this kind"):
        device.choose("cuda:0,1")
