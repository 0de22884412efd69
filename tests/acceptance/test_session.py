"""The first hour of somebody new, in real terminals, from `vmesh up` to Ctrl-C.

With RECORD_SESSION=FILE the screens are written down, as docs/session.md (`make session`).
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from terminal import Terminal

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "session.md"
START = 90.0  # seconds: importing a framework on a cold machine takes a while
JOB = re.compile(r"jobs/((train|infer)-[0-9a-z]{8})")


@dataclass
class Session:
    """Two terminals, and the page that is made of what they show."""

    mesh: Terminal
    work: Terminal
    home: Path
    page: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.page.append(text)

    def show(self, screen: str) -> str:
        """Put a screen onto the page; returns it."""
        page = screen.replace(str(self.home), "/home/you").replace(sys.prefix, "/home/you/visionmesh/.venv")
        self.page.append(f"```console\n{page.rstrip()}\n```")
        return screen

    def run(self, command: str) -> str:
        return self.show(self.work.run(command))

    def run_until(self, command: str, pattern: str) -> str:
        """Run a command, press Ctrl-C as soon as the pattern is on the screen, and look at what comes."""
        self.work.type(command)
        self.work.until(re.compile(pattern), START)
        self.work.press("c")
        return self.show(self.work.prompt())


@pytest.fixture
def home() -> Iterator[Path]:
    """With a short name, as people's are: lines of the screens are not broken in its midst."""
    with tempfile.TemporaryDirectory(prefix="vmesh-") as folder:
        yield Path(folder) / "home"


@pytest.fixture
def session(home: Path, default_port: int) -> Iterator[Session]:
    home.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(home), "PATH": path, "VIRTUAL_ENV": sys.prefix}
    mesh, work = Terminal(home, environment), Terminal(home, environment)
    yield Session(mesh, work, home)
    work.close()
    mesh.press("c")  # whatever the test came to, nothing of it stays
    mesh.until(re.compile(r"\n\$ $"), START)
    mesh.close()


@pytest.mark.timeout(900)
def test_the_first_hour(session: Session) -> None:
    begin(session)
    bring_data(session)
    trained = leave_and_come_back(session)
    inferred = again_and_on_with_it(session, trained)
    look_at_it(session, inferred)
    stop(session)
    if target := os.environ.get("RECORD_SESSION"):
        Path(target).write_text("\n\n".join(session.page) + "\n")


def begin(session: Session) -> None:
    session.say(
        "# A first hour\n\nWhat somebody new sees, from `vmesh up` to Ctrl-C: recorded in a terminal of 100 "
        "columns by\n`make session`, on a machine with two cores and no GPU. A test runs the same lines."
    )
    session.say("## A mesh\n\nIn a terminal of its own:")
    session.mesh.type("vmesh up")
    session.mesh.until(re.compile(r"Ctrl-C stops the mesh"), START)
    address = re.search(r"127\.0\.0\.1:\d+", session.show(session.mesh.take()))
    assert address is not None


def bring_data(session: Session) -> None:
    session.say("## Data\n\nIn another terminal: a small labelled image set, drawn.")
    session.run("python -m visionmesh.shapes shapes")
    assert "Nothing is wrong" in session.run("vmesh datasets check ./shapes")
    assert "datasets/shapes" in session.run("vmesh datasets create ./shapes --id shapes")


def leave_and_come_back(session: Session) -> str:
    session.say("## Train, leave, come back\n\nCtrl-C leaves the job running and says how to come back.")
    train = (
        "vmesh train --model yolo11n --dataset shapes --epochs 10 --image-size 96 --batch-size 8 "
        "--device cpu --set nbs=8 --set bn_momentum=0.1"
    )
    left = session.run_until(train, r"\n2/10 ")
    job = JOB.search(left)
    assert job is not None
    assert f"vmesh watch jobs/{job[1]}" in left
    session.run("vmesh jobs")
    session.say(
        "A watch begins with the first epoch, however late it comes: nothing is missed, nothing twice."
    )
    watched = session.run_until(f"vmesh watch {job[1]}", r"\n4/10 ")
    told = re.findall(r"^(\d+)/10 ", watched, re.MULTILINE)
    assert told == [str(number) for number in range(1, len(told) + 1)]
    session.say("Cancel stops it at the next batch; its epochs stay, and so does a checkpoint.")
    assert "CANCELLED" in session.run(f"vmesh cancel {job[1]} --wait")
    assert "partial" in session.run(f"vmesh result {job[1]}")
    return job[1]


def again_and_on_with_it(session: Session, cancelled: str) -> str:
    session.say(
        "## Once more, and on with it\n\n`retry` makes a new job of an old one; `-d` does not stay with it."
    )
    again = JOB.search(session.run(f"vmesh retry {cancelled} -d").rpartition("Submitted")[2])
    assert again is not None
    session.say("The next job wants its best checkpoint, which is not there yet. Why does it not run?")
    command = f"vmesh infer --checkpoint {again[1]} --images shapes:test --save-overlays -d"
    infer = JOB.search(session.run(command).rpartition("Submitted")[2])
    assert infer is not None
    assert f"jobs/{again[1]}" in session.run(f"vmesh explain {infer[1]}")
    session.run(f"vmesh watch {again[1]}")
    session.run(f"vmesh watch {infer[1]}")
    return infer[1]


def look_at_it(session: Session, inferred: str) -> None:
    session.say("## What it found\n\n`--save` brings every file, the overlays too.")
    saved = session.run(f"vmesh result {inferred} --limit 4 --save found")
    assert "16 images" in saved
    assert len(list((session.home / "found").rglob("*.jpg"))) == 16
    session.say("Is its history whole? `audit` asks what any client may ask, and counts for itself.")
    assert "whole" in session.run(f"vmesh audit {inferred} --files")
    session.say("## Refusals\n\nWhat, why, and what to do next; the last line is for programs.")
    assert "Did you mean 'yolo11x'?" in session.run(
        "vmesh train --model yolo11x9 --dataset shapes; echo exit code $?"
    )
    assert "exit code 2" in session.run(f"vmesh cancel {inferred}; echo exit code $?")
    session.say("## Care\n\nA drained runner takes no more jobs, and ends what it has.")
    session.run("vmesh drain ultralytics-1")
    assert "DRAINING" in session.run("vmesh runners")
    session.run("vmesh undrain ultralytics-1")


def stop(session: Session) -> None:
    session.say("## The end\n\nCtrl-C in the first terminal stops everything that it started.")
    session.mesh.press("c")
    ended = session.show(session.mesh.prompt(30))
    assert "/home/.visionmesh" in ended


def test_the_page_shows_the_lines_that_the_test_runs() -> None:
    """Up to the names of jobs, which are new each time."""
    page = [JOB.sub("JOB", line.replace("jobs/", "")) for line in PAGE.read_text().splitlines()]
    story = Path(__file__).read_text()
    commands = [line[2:] for line in page if line.startswith("$ ")]
    assert len(commands) > 15
    for command in commands:
        first_word = " ".join(command.split()[:2]).rstrip(";")
        assert first_word in story, command
