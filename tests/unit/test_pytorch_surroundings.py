"""What is set before PyTorch is imported."""

import os

import pytest

from runners.pytorch import surroundings


def test_threads_sleep_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("OMP_WAIT_POLICY", None)
    surroundings.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_an_operator_who_wants_them_to_spin_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "OMP_WAIT_POLICY": "ACTIVE"})
    surroundings.prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
