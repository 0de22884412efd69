"""The commands about jobs, runners and datasets, against a real scheduler."""

import asyncio
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import RUNNER, CommandLine, a_train

from visionmesh.cli import _completion
from visionmesh.shapes import write_class_folders, write_shapes
from visionmesh.v1 import vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def start(command_line: CommandLine) -> str:
    """A job that has begun and does not end until `pause` is set."""
    await command_line.prepare()
    command_line.runner.pause.clear()
    job = await command_line.mesh.client.create_job(a_train("ultralytics"))
    await command_line.mesh.until_state(job.name, "RUNNING")
    return str(job.name)


async def test_logs_are_what_the_job_said(command_line: CommandLine) -> None:
    job = await command_line.prepare()
    said = await command_line.vmesh("logs", job)
    assert said.stdout == "train begins\n"
    assert (await command_line.vmesh("logs", job, "--level", "warning")).stdout == ""
    assert (await command_line.vmesh("logs", job, "--attempt", "2")).stdout == ""
    assert (await command_line.vmesh("logs", job, "--tail", "0")).stdout == ""
    event = json.loads((await command_line.vmesh("logs", job, "-n", "1", "-o", "jsonl")).stdout)
    assert event["update"]["logLine"]["message"] == "train begins"


async def test_logs_can_be_followed_to_the_end(command_line: CommandLine) -> None:
    job = await start(command_line)
    following = asyncio.create_task(command_line.vmesh("logs", job, "--follow"))
    command_line.runner.pause.set()
    ran = await following
    assert ran.exit_code == 0
    assert ran.stdout == "train begins\n"


async def test_a_level_that_does_not_exist_is_refused(command_line: CommandLine) -> None:
    ran = await command_line.vmesh("logs", "j1", "--level", "loud")
    assert ran.exit_code == 2
    assert "one of debug, info, warning, error" in ran.stderr


async def test_explain_shows_what_each_runner_says(command_line: CommandLine) -> None:
    running = await start(command_line)
    waiting = await command_line.mesh.client.create_job(a_train("ultralytics"))
    ran = await command_line.vmesh("explain", waiting.name)
    assert "it is next" in ran.stdout
    assert re.search(rf"runners/{RUNNER} +no +has no free slot", ran.stdout)
    whole = json.loads((await command_line.vmesh("explain", waiting.name, "-o", "json")).stdout)
    assert whole["waitingFor"][0]["reason"] == "CAPACITY"
    assert "is running on" in (await command_line.vmesh("explain", running)).stdout
    command_line.runner.pause.set()
    await waiting.wait(20)


async def test_retry_makes_a_new_job_and_stays_with_it(command_line: CommandLine) -> None:
    job = await command_line.prepare()
    ran = await command_line.vmesh("retry", job)
    assert ran.exit_code == 0, ran.output
    assert f"repeats jobs/{job}" in ran.stderr
    assert "3 epochs; the best was epoch 3" in ran.stdout


async def test_a_job_that_runs_is_neither_retried_nor_deleted(command_line: CommandLine) -> None:
    job = await start(command_line)
    for verb in ("retry", "delete"):
        ran = await command_line.vmesh(verb, job)
        assert ran.exit_code == 2
        assert "JOB_NOT_ENDED" in ran.stderr
    command_line.runner.pause.set()
    await command_line.mesh.client.job(job).wait(20)


async def test_deleted_jobs_are_gone(command_line: CommandLine) -> None:
    job = await command_line.prepare()
    assert (await command_line.vmesh("delete", job)).stdout == f"jobs/{job} deleted\n"
    assert (await command_line.vmesh("delete", job)).exit_code == 2


async def test_jobs_are_found_by_label(command_line: CommandLine) -> None:
    await command_line.prepare()
    wanted = a_train("nobody_runs_this")
    wanted.labels["team"] = 'the "best" one'
    job = await command_line.mesh.client.create_job(wanted)
    ran = await command_line.vmesh("jobs", "--label", 'team=the "best" one', "-o", "json")
    assert [found["name"] for found in json.loads(ran.stdout)] == [job.name]
    assert (await command_line.vmesh("jobs", "--label", "team")).exit_code == 2


async def test_a_watch_of_jobs_has_no_end_to_put_into_json(command_line: CommandLine) -> None:
    ran = await command_line.vmesh("jobs", "--watch", "-o", "json")
    assert ran.exit_code == 2
    assert "use -o jsonl" in ran.stderr


async def test_drain_waits_until_the_runner_is_idle(command_line: CommandLine) -> None:
    job = await start(command_line)
    ran = await command_line.vmesh("drain", RUNNER, "--wait", "--timeout", "200ms")
    assert ran.exit_code == 5
    assert f"still runs {job}" in ran.stderr
    listed = await command_line.vmesh("runners")
    assert re.search(rf"runners/{RUNNER} +DRAINING +ultralytics .* 1 of 1", listed.stdout)
    draining = asyncio.create_task(command_line.vmesh("drain", RUNNER, "--wait"))
    command_line.runner.pause.set()
    done = await draining
    assert done.exit_code == 0
    assert f"runners/{RUNNER} takes no more jobs. Undo: vmesh undrain {RUNNER}" in done.stdout
    assert "takes jobs again" in (await command_line.vmesh("undrain", f"runners/{RUNNER}")).stdout
    whole = json.loads((await command_line.vmesh("runners", "-o", "json")).stdout)
    assert whole[0]["state"] == "RUNNER_STATE_ONLINE"


async def test_a_plain_word_is_a_dataset_and_a_path_is_a_folder(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await command_line.prepare()
    monkeypatch.chdir(command_line.folder)  # where there is a folder `shapes`, too
    for given, expected in (("shapes", "datasets/shapes"), ("./shapes", "datasets/shapes-")):
        ran = await command_line.vmesh(
            *("train", "--model", "yolo11n", "--dataset", given, "--detach", "-o", "json")
        )
        dataset = json.loads(ran.stdout)["train"]["dataset"]
        assert re.fullmatch(rf"{expected}[0-9a-f]*", dataset)


async def test_a_dry_run_keeps_no_dataset(command_line: CommandLine, tmp_path: Path) -> None:
    await command_line.prepare()
    source = str(command_line.folder / "shapes")
    before = (await command_line.vmesh("datasets", "list", "-o", "jsonl")).stdout
    ran = await command_line.vmesh("datasets", "create", source, "--id", "other", "--dry-run")
    assert ran.exit_code == 0, ran.output
    assert "would be accepted" in ran.stderr
    assert (await command_line.vmesh("datasets", "list", "-o", "jsonl")).stdout == before


async def test_check_names_file_and_line_as_the_mesh_does(command_line: CommandLine, tmp_path: Path) -> None:
    labels = tmp_path / "bad" / "labels" / "train"
    labels.mkdir(parents=True)
    (tmp_path / "bad" / "data.yaml").write_text("names: [circle]")
    (labels / "0.txt").write_text("0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n")
    images = tmp_path / "bad" / "images" / "train"
    images.mkdir(parents=True)
    picture = next((command_line.folder / "photos").iterdir())
    (images / "0.jpg").write_bytes(picture.read_bytes())
    here = await command_line.vmesh("datasets", "check", str(tmp_path / "bad"))
    there = await command_line.vmesh("datasets", "create", str(tmp_path / "bad"))
    assert here.exit_code == there.exit_code == 2
    assert "labels/train/0.txt:2" in here.stdout
    assert "1 problem." in here.stdout
    assert "labels/train/0.txt:2" in there.stderr


async def test_check_says_that_splits_would_be_made(command_line: CommandLine, tmp_path: Path) -> None:
    write_class_folders(tmp_path / "a", train=15, val=0, test=0, size=32)
    told = await command_line.vmesh("datasets", "check", str(tmp_path / "a" / "train"))
    assert told.exit_code == 0
    assert "class_folders, for classify; it has no splits: one image in five is taken for val" in told.stdout
    assert re.search(r"train +12 .*\nval +3 ", told.stdout)
    as_json = await command_line.vmesh("datasets", "check", str(tmp_path / "a" / "train"), "-o", "json")
    assert json.loads(as_json.stdout)["format"] == "class_folders"


async def test_check_counts_classes_and_shows_as_many_problems_as_asked(
    command_line: CommandLine, tmp_path: Path
) -> None:
    write_shapes(tmp_path / "a", train=6, val=3, test=0, size=32, task="segment")
    right = await command_line.vmesh("datasets", "check", str(tmp_path / "a"))
    assert right.exit_code == 0
    assert "layout   yolo, for segment" in right.stdout
    assert re.search(r"CLASS +TRAIN +VAL\s+circle +\d+ +\d+ *\nsquare +\d+ +\d+ *\ntriangle", right.stdout)
    other = await command_line.vmesh("datasets", "check", str(tmp_path / "a"), "--task", "pose")
    assert (other.exit_code, "the labels are for segment" in " ".join(other.stdout.split())) == (2, True)
    (tmp_path / "a/labels/train/00000.txt").write_text("9 0.1 0.1 0.2 0.1 0.1 0.2\n" * 120)
    shown = await command_line.vmesh("datasets", "check", str(tmp_path / "a"), "--limit", "3")
    assert shown.exit_code == 2
    assert shown.stdout.count("labels/train/00000.txt:") == 3
    assert "120 problems; the first 3 are shown, --limit 0 shows all." in " ".join(shown.stdout.split())
    everything = await command_line.vmesh("datasets", "check", str(tmp_path / "a"), "--limit", "0")
    assert everything.stdout.count("labels/train/00000.txt:") == 120


async def test_check_refuses_an_archive_that_leads_out(command_line: CommandLine, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    ran = await command_line.vmesh("datasets", "check", str(tmp_path / "bad.zip"))
    assert ran.exit_code == 2
    assert "../outside.txt" in ran.stdout
    assert not (tmp_path.parent / "outside.txt").exists()


async def test_a_dataset_that_an_unfinished_job_uses_stays(command_line: CommandLine) -> None:
    await start(command_line)
    ran = await command_line.vmesh("datasets", "delete", "shapes")
    assert ran.exit_code == 2
    assert "DATASET_IN_USE" in ran.stderr
    command_line.runner.pause.set()


async def test_tab_offers_what_the_mesh_has(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await command_line.prepare()
    monkeypatch.setenv("VISIONMESH_ADDRESS", command_line.mesh.address)
    assert job in await asyncio.to_thread(_completion.jobs, job[:8])
    assert f"jobs/{job}" in await asyncio.to_thread(_completion.jobs, "jobs/")
    assert await asyncio.to_thread(_completion.runners, "") == [RUNNER]
    assert "shapes" in await asyncio.to_thread(_completion.datasets, "sh")


async def test_the_shell_completes(command_line: CommandLine) -> None:
    job = await command_line.prepare()
    environment = {
        **os.environ,
        "VISIONMESH_ADDRESS": command_line.mesh.address,
        "_VMESH_COMPLETE": "complete_bash",
        "COMP_WORDS": f"vmesh watch {job[:-1]}",
        "COMP_CWORD": "2",
    }
    command = [sys.executable, "-c", "from visionmesh.cli import app; app(prog_name='vmesh')"]
    ran = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
    assert ran.stdout.split() == [job], ran.stderr


async def test_tab_offers_nothing_when_the_mesh_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONMESH_ADDRESS", "127.0.0.1:1")
    assert await asyncio.to_thread(_completion.jobs, "") == []


async def test_watch_of_a_cancelled_job_says_so(command_line: CommandLine) -> None:
    await command_line.prepare()
    job = await command_line.mesh.client.create_job(a_train("nobody_runs_this"))
    cancelled = await command_line.vmesh("cancel", job.name)
    assert cancelled.stdout == f"{job.name} CANCELLED\n"
    ran = await command_line.vmesh("watch", job.name)
    assert ran.exit_code == 3
    assert (await job.get()).state == vision_pb2.JOB_STATE_CANCELLED


async def test_models_are_found_by_a_part_of_their_names_or_a_pattern(command_line: CommandLine) -> None:
    by_part = await command_line.vmesh("models", "11n-")
    assert by_part.exit_code == 0
    found = re.findall(r"^yolo\S*", by_part.stdout, re.MULTILINE)
    assert found == ["yolo11n-seg", "yolo11n-cls", "yolo11n-pose", "yolo11n-obb"]
    assert "YOLO11 nano" in by_part.stdout
    (told,) = (await command_line.vmesh("models", "yolo*m", "-o", "jsonl")).stdout.splitlines()
    assert [model["name"] for model in json.loads(told)["models"]] == ["yolov8m", "yolo11m", "yolo26m"]
    none = await command_line.vmesh("models", "mobilenet")
    assert (none.exit_code, "No model fits" in none.stderr) == (0, True)
    nobody = await command_line.vmesh("models", "--framework", "keras")
    assert "No runner runs keras" in nobody.stderr


async def test_models_with_published_weights_are_told(command_line: CommandLine) -> None:
    told = await command_line.vmesh("models", "rtdetr*")
    rows = [re.split(r"\s{2,}", line.strip()) for line in told.stdout.splitlines()]
    assert {row[0]: "published" in row for row in rows if row[0].startswith("rtdetr")} == {
        "rtdetr-l": True,
        "rtdetr-x": True,
        "rtdetr-resnet50": False,
        "rtdetr-resnet101": False,
    }
    only = await command_line.vmesh("models", "rtdetr", "--pretrained")
    assert re.findall(r"^rtdetr\S*", only.stdout, re.MULTILINE) == ["rtdetr-l", "rtdetr-x"]


async def test_a_job_without_weights_is_refused_before_anything_is_sent(command_line: CommandLine) -> None:
    ran = await command_line.vmesh("infer", "--images", "shapes:test")
    assert ran.exit_code == 2
    assert "say with which weights" in " ".join(ran.stderr.replace("│", "").split())
    offline = await command_line.vmesh("infer", "--images", "shapes:test", "--model", "yolo11n")
    assert offline.exit_code == 2
    assert "PRETRAINED_UNAVAILABLE" in offline.stderr


async def test_what_can_be_set_is_listed_with_its_range(command_line: CommandLine) -> None:
    listed = await command_line.vmesh("models", "--settings", "mosaic")
    rows = [re.split(r"\s{2,}", line.strip()) for line in listed.stdout.splitlines()]
    assert rows[-2][:5] == ["mosaic", "ultralytics", "train", "number, 0 to 1", "1"]
    assert len(rows) == 3, rows  # with the head and close_mosaic
    everything = (await command_line.vmesh("models", "--settings")).stdout
    assert re.search(r"cos_lr .* true, false +false +Cosine", everything)
    assert re.search(r"amp .* fp32, bf16 +bf16 ", everything)
