"""The scripts of the ultralytics framework as processes: by hand, and as the agent starts them."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.process.framing import Decoder, encode
from visionmesh.shapes import write_shapes
from visionmesh.v1 import process_pb2, vision_pb2

pytestmark = pytest.mark.timeout(120)
DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=24, val=8, test=0, size=64)
    return folder


@pytest.fixture
def environ(shapes: Path, tmp_path: Path) -> dict[str, str]:
    """Long enough to be stopped."""
    return {
        **os.environ,
        "DATASET_PATH": str(shapes),
        "OUTPUT_PATH": str(tmp_path / "out"),
        "MODEL_NAME": "yolov8n",
        "EPOCHS": "1000",
        "BATCH_SIZE": "8",
        "IMAGE_SIZE": "32",
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def popen(module: str, environ: dict[str, str], **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"runners.ultralytics.{module}"]
        started.append(subprocess.Popen(command, env=environ, text=True, **options))
        return started[-1]

    yield popen
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_by_hand_it_prints_json_lines_and_obeys_ctrl_c(
    environ: dict[str, str], start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start("train", environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if "epochCompleted" in events[-1].get("progress", {}) and len(epochs(events)) == 2:
            process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_SECONDS) == 3
    assert "attemptStarted" in events[0]["progress"]
    assert {"torch", "ultralytics", "python"} <= set(
        events[0]["progress"]["attemptStarted"]["packageVersions"]
    )
    assert events[-1]["ended"]["outcome"] == "ATTEMPT_STATE_CANCELLED"
    assert [epoch["epoch"] for epoch in epochs(events)][:2] == [1, 2]
    assert events[-2]["result"]["training"]["epochsCompleted"] == len(epochs(events))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["best.pt", "last.pt"]


def epochs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = (event.get("progress", {}).get("epochCompleted") for event in events)
    return [epoch for epoch in told if epoch]


def test_by_hand_an_error_of_the_user_is_told_on_one_line(
    environ: dict[str, str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(
        "predict", {**environ, "IMAGE_PATHS": "/absent"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    last = json.loads(output.splitlines()[-1])
    assert process.returncode == 1
    assert last["ended"]["cause"] == "ATTEMPT_CAUSE_USER_ERROR"
    assert "IMAGE_PATHS is '/absent'" in last["ended"]["error"]["message"]


class Agent:
    """The other end of a job process's two pipes."""

    def __init__(self) -> None:
        self.events, self.events_writer = os.pipe()
        self.commands_reader, self.commands = os.pipe()
        self._decoder = Decoder(process_pb2.ProcessEvent)
        self._waiting: list[process_pb2.ProcessEvent] = []

    def started(self) -> None:
        """Close what belongs to the job process."""
        os.close(self.events_writer)
        os.close(self.commands_reader)

    def send(self, **command: Any) -> None:
        os.write(self.commands, encode(process_pb2.ProcessCommand(**command)))

    def receive(self) -> process_pb2.ProcessEvent:
        """The next event, or a failed test after the deadline."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.events, selectors.EVENT_READ)
            while not self._waiting:
                assert selector.select(deadline - time.monotonic()), "no event before the deadline"
                data = os.read(self.events, 65536)
                assert data, "the job process has closed its events"
                self._waiting = self._decoder.feed(data)
        return self._waiting.pop(0)


def test_the_agent_starts_and_stops_it_within_an_epoch(
    environ: dict[str, str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    agent = Agent()
    process = start(
        "train",
        {**environ, "EVENTS_FD": str(agent.events_writer), "COMMANDS_FD": str(agent.commands_reader)},
        pass_fds=(agent.events_writer, agent.commands_reader),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    agent.started()
    agent.send(start=process_pb2.Start())
    assert agent.receive().progress.attempt_started.pid == process.pid
    event = agent.receive()
    while event.progress.batch_progress.epoch < 2:
        event = agent.receive()
    agent.send(stop=process_pb2.Stop(reason="Cancelled by Ada."))
    while not event.HasField("ended"):
        event = agent.receive()
    assert event.ended.outcome == vision_pb2.ATTEMPT_STATE_CANCELLED
    assert event.ended.error.message == "Cancelled by Ada."
    assert process.wait(DEADLINE_SECONDS) == 3
    os.close(agent.events)
    os.close(agent.commands)


def test_it_does_not_outlive_an_agent_that_never_starts_it(
    environ: dict[str, str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    agent = Agent()
    process = start(
        "train",
        {**environ, "EVENTS_FD": str(agent.events_writer), "COMMANDS_FD": str(agent.commands_reader)},
        pass_fds=(agent.events_writer, agent.commands_reader),
    )
    agent.started()
    os.close(agent.commands)
    assert process.wait(DEADLINE_SECONDS) == 1
    os.close(agent.events)


def test_it_can_be_forked_from_a_process_that_has_preloaded_it() -> None:
    """The zygote's promise: one thread, no gRPC, no CUDA context after preload."""
    code = (
        "import os, sys; from runners.framework import load; load('ultralytics').preload();"
        "import torch; print(len(os.listdir('/proc/self/task')), 'grpc' in sys.modules,"
        " torch.cuda.is_initialized(), os.environ['ULTRALYTICS_SAFE_LOAD'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 False False 1"
