"""A runner in another language, made of `vmesh protos export` and docs/protocol.md alone."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_scheduler import running
from typescript import built

from runners.conformance.cases import CASES
from runners.conformance.work import dataset
from visionmesh.v1 import job_pb2, progress_pb2, vision_pb2

SOURCE = Path(__file__).parent / "runners" / "typescript"
DEADLINE = 150


@pytest.fixture(scope="module")
def runner(require: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner, compiled."""
    return built(SOURCE, tmp_path_factory.mktemp("typescript") / "runner", require)


def test_it_keeps_every_rule(runner: Path) -> None:
    command = [sys.executable, "-m", "runners.conformance", "-o", "jsonl", "--"]
    command += ["node", str(runner / "dist" / "main.js"), "{address}"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(line["case"], line["seen"]) for line in said if not line["passed"]] == []
    assert [line["case"] for line in said] == [case.name for case in CASES]
    assert ran.returncode == 0, ran.stderr


async def test_it_trains_for_a_real_scheduler_and_learns(runner: Path, tmp_path: Path) -> None:
    for path, data in dataset().items():
        file = tmp_path / "colours" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    async with running(tmp_path / "data") as mesh:
        await mesh.client.create_dataset(tmp_path / "colours", dataset_id="colours")
        node = await asyncio.create_subprocess_exec("node", str(runner / "dist" / "main.js"), mesh.address)
        try:
            spec = job_pb2.TrainSpec(
                model="colours", task=vision_pb2.TASK_CLASSIFY, dataset="datasets/colours", epochs=20
            )
            job = await mesh.client.create_job(job_pb2.Job(framework="typescript", train=spec))
            async with asyncio.timeout(60):
                updates = [event.update async for event in job.watch()]
            ended = await job.get()
            result = await job.result()
        finally:
            node.terminate()
            await node.wait()
    assert ended.state == vision_pb2.JOB_STATE_SUCCEEDED, ended.error.message
    epochs = [update.epoch_completed for update in updates if update.HasField("epoch_completed")]
    assert [epoch.epoch for epoch in epochs] == list(range(1, 21))
    assert loss(epochs[-1]) < loss(epochs[0]) / 2, "it has learnt nothing"
    assert epochs[-1].metrics["accuracy_top1"] == 1
    assert result.training.best_epoch == 20


def loss(epoch: progress_pb2.EpochCompleted) -> float:
    return epoch.metrics["train_loss"]
