"""What `vmesh up` shows: devices in words, lines that paste, and the command that goes on."""

import shlex
from pathlib import Path

import pytest

from visionmesh.cli import _up_screen as screen
from visionmesh.cli.mesh import DatabaseUpgrade, LocalMesh, MeshSettings
from visionmesh.client import DEFAULT_ADDRESS
from visionmesh.v1 import runner_pb2

HOME = Path("/home/ada/.visionmesh")
GIB = 2**30


def a_runner(number: int = 1, slots: int = 1, gpus: int = 0) -> runner_pb2.Runner:
    runner = runner_pb2.Runner(
        name=f"runners/u-{number}", framework="ultralytics", framework_version="8.4.190"
    )
    runner.capacity.CopyFrom(runner_pb2.RunnerCapacity(slots=slots, cpus=16, memory_bytes=128 * GIB))
    for index in range(gpus):
        runner.capacity.gpus.add(index=index, model="NVIDIA H200", memory_mib=139 * 1024)
    return runner


@pytest.mark.parametrize(
    ("gpus", "words"),
    [(0, "no GPU"), (1, "NVIDIA H200 (139 GiB)"), (8, "8 times NVIDIA H200 (139 GiB)")],
)
def test_devices_are_told_as_the_runner_reports_them(gpus: int, words: str) -> None:
    told = screen.machine_text(a_runner(gpus=gpus).capacity)
    assert told == f"16 CPU cores, 128 GiB memory, {words}"


def test_runners_are_told_in_one_line() -> None:
    assert screen.runners_text([a_runner()]) == "u-1 (ultralytics 8.4.190), 1 job at a time"
    three = [a_runner(number, slots=2) for number in (1, 2, 3)]
    assert screen.runners_text(three) == "3, u-1 to u-3 (ultralytics 8.4.190), 2 jobs at a time each"


def test_runners_of_several_frameworks_are_told_apart() -> None:
    other = a_runner()
    other.name, other.framework, other.framework_version = "runners/t-1", "timm", "1.0.31"
    told = dict(screen.facts(LocalMesh(MeshSettings(HOME)), [a_runner(), other]))
    assert told["runners"] == (
        "t-1 (timm 1.0.31), 1 job at a time; u-1 (ultralytics 8.4.190), 1 job at a time"
    )


def test_an_upgrade_of_the_database_is_told() -> None:
    mesh = LocalMesh(MeshSettings(HOME))
    mesh.upgrade = DatabaseUpgrade("0001", "0002", "/data/visionmesh.db.backup-0001-x")
    assert (
        "database",
        "migrated from 0001 to 0002; as it was before: /data/visionmesh.db.backup-0001-x",
    ) in (screen.facts(mesh, [a_runner()]))


def test_the_page_of_the_gateway_is_told() -> None:
    mesh = LocalMesh(MeshSettings(HOME))
    assert "web" not in dict(screen.facts(mesh, []))
    mesh.http_address = "127.0.0.1:8080"
    assert dict(screen.facts(mesh, []))["web"].startswith("http://127.0.0.1:8080/docs ")


def test_the_address_is_given_where_it_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISIONMESH_ADDRESS", raising=False)
    assert not any("--address" in line for line in screen.lines_to_copy(DEFAULT_ADDRESS))
    assert screen.lines_to_copy("127.0.0.1:7")[-1] == "vmesh jobs --address 127.0.0.1:7"
    assert screen.lines_to_copy("127.0.0.1:7", "faces")[-2:] == [
        "vmesh faces detect --images ./photos --address 127.0.0.1:7",
        "vmesh jobs --address 127.0.0.1:7",
    ]
    monkeypatch.setenv("VISIONMESH_ADDRESS", "elsewhere:1")  # it would lead there
    assert screen.lines_to_copy(DEFAULT_ADDRESS)[-1].endswith(f"--address {DEFAULT_ADDRESS}")


@pytest.mark.parametrize("width", [40, 78, 118, 300])
def test_a_long_line_is_broken_so_that_it_pastes_as_one(width: int) -> None:
    for line in screen.lines_to_copy("127.0.0.1:46581")[-2:]:
        shown = screen.fitted(line, width)
        assert shlex.split(shown.replace("\\\n", "")) == shlex.split(line)
        assert all(len(row) <= max(width, 60) for row in shown.splitlines())
        assert ("\n" in shown) == (len(line) > width)


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        (MeshSettings(HOME, 50051), "vmesh up"),
        (MeshSettings(Path("/my data"), 0), "vmesh up --data-dir '/my data' --port 0"),
        (
            MeshSettings(HOME, 50051, datasets="s3://in", artifacts="s3://out/mesh"),
            "vmesh up --datasets s3://in --artifacts s3://out/mesh",
        ),
        (MeshSettings(HOME, 50051, http=True, http_port=0), "vmesh up --http-port 0"),
        (MeshSettings(HOME, 50051, ("plain",), 2, 3), "vmesh up --runners 2 --slots 3 --framework plain"),
        (
            MeshSettings(HOME, 50051, ("ultralytics", "timm")),
            "vmesh up --framework ultralytics --framework timm",
        ),
    ],
)
def test_the_command_that_goes_on(settings: MeshSettings, command: str) -> None:
    assert screen.resume_command(settings, HOME) == command
