"""The demo does what it says: three jobs succeed, shapes are found, files lie where it says."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

EXAMPLE = "vmesh demo"
LIMIT = 180  # seconds; on two idle cores it takes less than half of that


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple["subprocess.CompletedProcess[str]", Path]:
    """One run of the demo, for all tests of this file."""
    temporary = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "visionmesh.cli", *EXAMPLE.split()[1:]]
    begin = time.monotonic()
    ran = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    print(f"demo took {time.monotonic() - begin:.1f} s")
    (folder,) = temporary.glob("visionmesh-demo-*")
    return ran, folder


@pytest.mark.timeout(LIMIT + 20)
def test_demo_succeeds_and_finds_the_shapes(demo: tuple["subprocess.CompletedProcess[str]", Path]) -> None:
    ran, _ = demo
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for kind in ("train", "validate", "infer"):
        assert re.search(rf"^{kind} +jobs/[a-z0-9-]+ SUCCEEDED$", ran.stdout, re.MULTILINE)
    map50 = re.search(r"mAP50 (\d\.\d{3})", ran.stdout)
    assert map50 is not None
    assert float(map50[1]) >= 0.9


def test_demo_tells_each_epoch(demo: tuple["subprocess.CompletedProcess[str]", Path]) -> None:
    ran, _ = demo
    epochs = re.findall(r"^train +(\d)/8 ", ran.stderr, re.MULTILINE)
    assert epochs == [str(number) for number in range(1, 9)]


def test_demo_compares_at_least_16_unseen_images_with_the_truth(
    demo: tuple["subprocess.CompletedProcess[str]", Path],
) -> None:
    ran, _ = demo
    lines = [line for line in ran.stdout.splitlines() if re.search(r"\.jpg .*[✓✗] \d/\d$", line)]
    assert len(lines) >= 16
    assert sum("✓" in line for line in lines) >= len(lines) * 0.75


def test_the_files_that_demo_names_are_there(demo: tuple["subprocess.CompletedProcess[str]", Path]) -> None:
    ran, folder = demo
    named = [
        Path(line.split("  (")[0].strip())
        for line in ran.stdout.splitlines()
        if str(folder / "results") in line
    ]
    assert all(path.exists() for path in named)
    suffixes = {path.suffix for path in named}
    assert ".pt" in suffixes
    pictures = [path for path in named if path.suffix == ".png" and "confusion" in path.name]
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_demo_stops_what_it_started(demo: tuple["subprocess.CompletedProcess[str]", Path]) -> None:
    _, folder = demo
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]
    assert left == []
