"""The README's gRPC lines, run as they are, against `vmesh up`."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START = 90.0  # seconds: importing a framework on a cold machine takes a while


def blocks() -> dict[str, str]:
    """The README's bash blocks by the RPC, or flag, that each ends with."""
    found = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return {block.rstrip().rsplit("/", 1)[-1].split()[-1]: block for block in found if "buf curl" in block}


class Shell:
    """Runs README blocks against a mesh on another port than the README's."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def start(self, block: str) -> subprocess.Popen[str]:
        script = block.replace("127.0.0.1:50051", self._address)
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, block: str) -> str:
        process = self.start(block)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        return output


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    command = [
        sys.executable,
        "-m",
        "visionmesh.cli",
        "up",
        "--port",
        "0",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    up = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    lines: Queue[str] = Queue()
    assert up.stdout is not None
    reader = threading.Thread(target=lambda stream=up.stdout: [lines.put(line) for line in stream])
    reader.start()
    try:
        seen = ""
        while (address := re.search(r"127\.0\.0\.1:\d+", seen)) is None:
            seen += lines.get(timeout=START)
        yield Shell(tmp_path, address[0])
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(timeout=30)
        reader.join(timeout=10)
        up.stdout.close()


def events(stream: Iterator[str]) -> Iterator[dict[str, object]]:
    """JSON objects out of what `buf curl` prints, one after the other."""
    decoder, text = json.JSONDecoder(), ""
    for line in stream:
        text += line
        try:
            value, end = decoder.raw_decode(text.lstrip())
        except ValueError:
            continue
        text = text.lstrip()[end:]
        yield value


def test_by_reflection_alone_one_lists_creates_watches_live_and_cancels(shell: Shell) -> None:
    by_name = blocks()
    assert "visionmesh.v1.JobService/CreateJob" in shell.run(by_name["--list-methods"])
    upload = json.loads(shell.run(by_name["UploadFile"]).split("\n", 1)[1])
    shell.environment["UPLOAD"] = upload["name"]
    dataset = json.loads(shell.run(by_name["CreateDataset"]))
    assert dataset["name"] == "datasets/shapes"
    job = json.loads(shell.run(by_name["CreateJob"]))
    assert job["state"] in {"JOB_STATE_QUEUED", "JOB_STATE_RUNNING"}
    shell.environment["JOB"] = job["name"]

    watch = shell.start(by_name["WatchProgress"])
    assert watch.stdout is not None
    sequences, epochs, states = [], 0, []
    for message in events(iter(watch.stdout)):
        event = message.get("event")
        if not isinstance(event, dict):
            continue
        sequences.append(int(event["sequence"]))
        update = event["update"]
        if "epochCompleted" in update:
            epochs += 1
            if epochs == 1:
                shell.run(by_name["CancelJob"])  # live: 49 epochs are still to come
        if "stateChanged" in update:
            states.append(update["stateChanged"]["toState"])
    assert watch.wait(timeout=10) == 0
    watch.stdout.close()
    assert 1 <= epochs < 50
    assert sequences == sorted(set(sequences))
    assert states[-1] == "JOB_STATE_CANCELLED"
