"""What is missing skips a test, except in continuous integration."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [({}, pytest.skip.Exception), ({"CI": "true"}, pytest.fail.Exception)],
    ids=["by hand", "in CI"],
)
def test_what_is_missing_is_named_with_its_install_line(
    require: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    outcome: type[BaseException],
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(outcome, match="no-such-program is not on PATH: apt-get install it"):
        require("no-such-program", "apt-get install it")


def test_what_is_there_is_found(
    require: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require("program", "") == str(tmp_path / "program")
