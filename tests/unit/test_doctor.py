"""Each check of `vmesh doctor` that needs no scheduler, in its good and its bad case."""

import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from rich.console import Console
from typer.testing import CliRunner

from visionmesh.cli import app
from visionmesh.cli._doctor_commands import show_finding, summary
from visionmesh.doctor import Finding, Verdict, _disks, _examine, _gpu, _packages, ok, problem, warning
from visionmesh.doctor._gpu import Driver, gpu
from visionmesh.doctor._mesh import mesh
from visionmesh.doctor._process import ProbeFailed, lines_of
from visionmesh.v1 import runner_pb2, runner_pb2_grpc

H200 = Driver(("NVIDIA H200",), "580.1", (13, 0))


def test_python_must_be_new_enough() -> None:
    assert _packages.python().verdict is Verdict.OK
    old = _packages.python((3, 10, 2))
    assert old.verdict is Verdict.PROBLEM
    assert "3.10.2" in old.seen


def test_packages_are_named_with_their_versions_or_as_missing() -> None:
    assert "grpcio 1." in _packages.packages().seen
    missing = _packages.packages(["grpcio", "no-such-package"])
    assert missing.verdict is Verdict.PROBLEM
    assert missing.seen == "no-such-package not installed"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, ahead of all others here and in processes that are started."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def install(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_two_opencvs_are_a_problem(site: Path) -> None:
    names = ("opencv-a", "opencv-b")
    assert _packages.opencv(names).verdict is Verdict.WARNING
    install(site, "opencv-a", "4.14.0")
    assert _packages.opencv(names) == ok("OpenCV", "opencv-a 4.14.0")
    install(site, "opencv-b", "4.13.0")
    both = _packages.opencv(names)
    assert both.verdict is Verdict.PROBLEM
    assert both.seen == "opencv-a and opencv-b are installed over each other"
    assert "uninstall -y opencv-a opencv-b" in both.advice


async def test_imports_are_tried_in_another_process(site: Path) -> None:
    (site / "cv2.py").write_text(
        "print('noise')\nraise ImportError('libGL.so.1: cannot open shared object file: No such file')"
    )
    (site / "torch.py").write_text(
        "from types import SimpleNamespace as N\n"
        "__version__ = '2.15.0+cpu'\nversion = N(cuda=None)\ncuda = N(is_available=lambda: False)"
    )
    found = {
        finding.check: finding
        for finding in await _packages.frameworks(H200, ["cv2", "torch", "no_such_module"])
    }
    assert found["cv2"].verdict is Verdict.PROBLEM
    assert "apt-get install libgl1 libglib2.0-0" in found["cv2"].advice
    assert found["torch"] == ok("torch", "2.15.0+cpu")
    assert found["no_such_module"].verdict is Verdict.WARNING
    assert found["GPU"].verdict is Verdict.PROBLEM
    assert "for CPUs only" in found["GPU"].seen
    assert "torch" not in sys.modules or sys.modules["torch"].__file__ != str(site / "torch.py")


async def test_an_import_that_crashes_is_a_problem(site: Path) -> None:
    (site / "cv2.py").write_text("import os\nos.abort()")
    (found,) = await _packages.frameworks(Driver(), ["cv2"])
    assert found.verdict is Verdict.PROBLEM
    assert "code -6" in found.seen


async def test_a_process_that_does_not_answer_is_killed(site: Path) -> None:
    (site / "sleeper.py").write_text("import signal\nsignal.pause()")
    with pytest.raises(ProbeFailed, match=r"within 0\.5 s"):
        await lines_of("sleeper", [], 0.5)


async def test_a_process_that_fails_is_told_with_its_last_line(site: Path) -> None:
    (site / "failing.py").write_text("raise RuntimeError('nothing works')")
    with pytest.raises(ProbeFailed, match="ended with code 1: RuntimeError: nothing works"):
        await lines_of("failing", [], 30)


def test_torch_and_torchvision_of_two_places_are_told_apart() -> None:
    error = {"error": "operator torchvision::nms does not exist", "missing": False}
    (found,) = _packages.judged({"torchvision": error}, Driver())
    assert found.verdict is Verdict.PROBLEM
    assert "do not match" in found.advice


@pytest.mark.parametrize(
    ("driver", "built_for", "works", "verdict", "words"),
    [
        (Driver(), "13.2", False, Verdict.OK, "no NVIDIA GPU"),
        (H200, "13.2", True, Verdict.OK, "built for CUDA 13.2"),
        (H200, "12.8", True, Verdict.OK, "runs CUDA up to 13.0"),
        (H200, None, False, Verdict.PROBLEM, "CPUs only"),
        (H200, "14.0", False, Verdict.PROBLEM, "built for CUDA 14.0"),
        (H200, "13.0", False, Verdict.PROBLEM, "finds none"),
    ],
)
def test_torch_must_fit_the_driver(
    tmp_path: Path, driver: Driver, built_for: str | None, works: bool, verdict: Verdict, words: str
) -> None:
    found = gpu(driver, built_for, works=works, devices=tmp_path)
    assert found.verdict is verdict
    assert words in found.seen


@pytest.mark.parametrize(
    ("vendor", "kind", "verdict"),
    [
        ("0x10de", "0x030200", Verdict.WARNING),
        ("0x10de", "0x020000", Verdict.OK),
        ("0x8086", "0x030000", Verdict.OK),
    ],
)
def test_a_gpu_without_a_driver_is_noticed(tmp_path: Path, vendor: str, kind: str, verdict: Verdict) -> None:
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    assert gpu(Driver(), None, works=False, devices=tmp_path).verdict is verdict


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise _gpu.pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(_gpu.pynvml, "nvmlInit", none)
    assert _gpu.driver() == Driver()


def test_the_font_for_plots_is_there() -> None:
    assert _packages.fonts().verdict is Verdict.OK


def test_a_missing_font_is_a_warning(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "matplotlib").mkdir()
    (site / "matplotlib" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    found = _packages.fonts()
    assert found.verdict is Verdict.WARNING
    assert "DejaVuSans.ttf" in found.seen


@pytest.mark.parametrize(
    ("free_gib", "verdict"), [(20, Verdict.OK), (4, Verdict.WARNING), (0.5, Verdict.PROBLEM)]
)
def test_room_on_the_disk_of_a_folder_that_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: float, verdict: Verdict
) -> None:
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=int(free_gib * 2**30), total=100 * 2**30)

    monkeypatch.setattr(_disks.shutil, "disk_usage", usage)
    found = _disks.room("data disk", tmp_path / "not" / "yet")
    assert (found.verdict, asked) == (verdict, [tmp_path])
    assert "of 100.0 GiB free" in found.seen


@pytest.mark.parametrize(("free_mib", "verdict"), [(2048, Verdict.OK), (64, Verdict.WARNING)])
def test_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, verdict: Verdict
) -> None:
    usage = SimpleNamespace(free=free_mib * 2**20, total=free_mib * 2**20)
    monkeypatch.setattr(_disks.shutil, "disk_usage", lambda _: usage)
    assert _disks.shared_memory(tmp_path).verdict is verdict
    assert _disks.shared_memory(tmp_path / "absent").verdict is Verdict.OK


class Runners(runner_pb2_grpc.RunnerServiceServicer):
    states: tuple["runner_pb2.RunnerState.ValueType", ...] = ()

    def ListRunners(self, request: object, context: object) -> runner_pb2.ListRunnersResponse:  # noqa: N802
        listed = [runner_pb2.Runner(name=f"runners/r{n}", state=state) for n, state in enumerate(self.states)]
        return runner_pb2.ListRunnersResponse(runners=listed)


@pytest.fixture
def served() -> Iterator[tuple[str, Runners]]:
    server, runners = grpc.server(ThreadPoolExecutor(2)), Runners()
    runner_pb2_grpc.add_RunnerServiceServicer_to_server(runners, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield address, runners
    server.stop(0).wait()


async def test_a_mesh_that_answers_is_told_with_its_runners(served: tuple[str, Runners]) -> None:
    address, runners = served
    runners.states = (runner_pb2.RUNNER_STATE_ONLINE, runner_pb2.RUNNER_STATE_OFFLINE)
    assert await mesh(address) == ok("mesh", f"{address} answers; online: r0")


async def test_a_mesh_without_runners_is_a_warning(served: tuple[str, Runners]) -> None:
    found = await mesh(served[0])
    assert found.verdict is Verdict.WARNING
    assert served[0] in found.advice


async def test_a_free_port_is_fine_and_a_taken_one_a_problem() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert (await mesh(f"127.0.0.1:{port}")).verdict is Verdict.PROBLEM
    assert (await mesh(f"127.0.0.1:{port}")).verdict is Verdict.OK


async def test_a_mesh_elsewhere_that_does_not_answer_is_a_problem() -> None:
    found = await mesh("127.0.0.2:1")  # no loopback address that we know, so not ours to listen on
    assert found.verdict is Verdict.PROBLEM
    assert (await mesh("nonsense")).verdict is Verdict.PROBLEM


async def test_the_scheduler_s_findings_are_read_and_its_failure_is_one(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # else the repository, where tests run, comes first
    (site / "scheduler").mkdir()
    (site / "scheduler" / "__init__.py").touch()
    told = json.dumps(ok("database", "sound").as_object())
    (site / "scheduler" / "doctor.py").write_text(f"print({told!r})")
    assert await _examine.scheduler(site) == [ok("database", "sound")]
    (site / "scheduler" / "doctor.py").write_text("raise SystemExit('torn')")
    (found,) = await _examine.scheduler(site)
    assert found.verdict is Verdict.PROBLEM
    assert "torn" in found.seen


def test_a_finding_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    out = Console(width=80, highlight=False)
    show_finding(out, problem("shared memory", "word " * 30, "do this " * 20))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("problem  shared memory    word")
    assert any(line.strip().startswith("→ do this") for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_the_summary_counts() -> None:
    fine, odd, bad = ok("a", ""), warning("b", "", ""), problem("c", "", "")
    assert summary([fine, fine]) == "All is well."
    assert summary([fine, odd, bad, bad]).startswith("2 problems and 1 warning;")


@pytest.mark.parametrize(("found", "code"), [(warning("x", "y", "z"), 0), (problem("x", "y", "z"), 2)])
def test_exit_code_and_json(monkeypatch: pytest.MonkeyPatch, found: Finding, code: int) -> None:
    async def examine(*_: object) -> Any:
        yield ok("a", "b")
        yield found

    monkeypatch.setattr("visionmesh.cli._doctor_commands.examine", examine)
    ran = CliRunner().invoke(app, ["doctor", "-o", "json"])
    assert ran.exit_code == code
    assert [Finding.from_object(entry) for entry in json.loads(ran.stdout)] == [ok("a", "b"), found]
    lines = CliRunner().invoke(app, ["doctor", "-o", "jsonl"]).stdout.splitlines()
    assert [json.loads(line)["check"] for line in lines] == ["a", "x"]
    assert "z" in CliRunner().invoke(app, ["doctor"]).stdout
