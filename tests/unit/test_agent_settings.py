"""Flags, else environment variables, else defaults; a wrong value is named."""

import pytest

from runners.agent.__main__ import main
from runners.agent.settings import BadSettings, default_runner_id, read


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("SCHEDULER", "FRAMEWORK", "RUNNER_ID", "SLOTS", "LABELS", "WORK_DIR", "ONCE", "ZYGOTE"):
        monkeypatch.delenv(f"VISIONMESH_{name}", raising=False)


def test_the_environment_is_read_and_flags_win(monkeypatch):
    monkeypatch.setenv("VISIONMESH_SCHEDULER", "mesh:1")
    monkeypatch.setenv("VISIONMESH_SLOTS", "3")
    monkeypatch.setenv("VISIONMESH_LABELS", "zone=a, gpu=h200")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    settings = read({"scheduler": "other:2", "slots": None, "runner_id": "r-1"})
    assert (settings.scheduler, settings.slots, settings.runner_id) == ("other:2", 3, "r-1")
    assert settings.labels == {"zone": "a", "gpu": "h200"}
    assert settings.log_level == "DEBUG"
    assert settings.zygote
    assert not settings.once


def test_labels_from_flags():
    assert read({"labels": ["a=1", "b=x=y"]}).labels == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"slots": "0"}, "slots = '0'"),
        ({"runner_id": "Not Good"}, "runner_id = 'Not Good'"),
        ({"labels": ["zone"]}, "key=value"),
        ({"log_format": "xml"}, "log_format = 'xml'"),
    ],
)
def test_a_wrong_value_is_named(flags, named):
    with pytest.raises(BadSettings, match=named):
        read(flags)


def test_a_wrong_value_ends_the_program_with_2(capsys):
    assert main(["--slots", "many"]) == 2
    assert "slots = 'many'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hostname", "framework", "runner_id"),
    [
        ("GPU_Node.example.org", "ultralytics", "gpu-node-ultralytics"),
        ("___", "my_framework", "runner-my-framework"),
        ("n" * 80, "timm", "n" * 58 + "-timm"),
        ("host", "plain_framework:Plain", "host-plain-framework-plain"),
    ],
)
def test_default_runner_ids(hostname, framework, runner_id):
    assert default_runner_id(hostname, framework) == runner_id
    assert read({"runner_id": runner_id}).runner_id == runner_id
