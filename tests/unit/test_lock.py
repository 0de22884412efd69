"""A data folder and an SQLite file have one scheduler at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.lock import claimed, folder_lock, holder_of
from scheduler.refusal import CannotStart, Refusal

HOLDER = """
import signal, sys
from pathlib import Path
from scheduler.lock import claimed
with claimed(Path(sys.argv[1]), None) as claim:
    claim.announce("127.0.0.1:7")
    print("held", flush=True)
    signal.pause()
"""


def test_a_folder_that_is_held_is_refused_with_who_and_where(tmp_path: Path) -> None:
    with claimed(tmp_path, None) as claim:
        claim.announce("127.0.0.1:50051")
        with pytest.raises(CannotStart) as refused, claimed(tmp_path, None):
            pass
    assert refused.value.reason is Refusal.DATA_DIR_IN_USE
    text = str(refused.value)
    assert f"process {os.getpid()}" in text
    assert "--address 127.0.0.1:50051" in text
    assert "--data-dir" in text
    with claimed(tmp_path, None):
        assert holder_of(folder_lock(tmp_path)) is not None


def test_two_folders_cannot_share_an_sqlite_file(tmp_path: Path) -> None:
    database = tmp_path / "a" / "visionmesh.db"
    with claimed(tmp_path / "a", database):
        with pytest.raises(CannotStart, match=r"visionmesh\.db"), claimed(tmp_path / "b", database):
            pass
        with claimed(tmp_path / "b", tmp_path / "b" / "visionmesh.db"):
            pass


def test_a_refused_second_leaves_the_first_one_s_note_alone(tmp_path: Path) -> None:
    with claimed(tmp_path, None) as claim:
        claim.announce("127.0.0.1:1")
        with pytest.raises(CannotStart), claimed(tmp_path, None):
            pass
        holder = holder_of(folder_lock(tmp_path))
        assert holder is not None
        assert holder.address == "127.0.0.1:1"


def test_a_lock_ends_with_its_holder_even_if_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CannotStart, match=f"process {other.pid}"), claimed(tmp_path, None):
            pass
        other.send_signal(signal.SIGKILL)
    assert holder_of(folder_lock(tmp_path)) is None
    with claimed(tmp_path, None):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CannotStart, match="a file is in its way") as refused,
        claimed(tmp_path / "file", None),
    ):
        pass
    assert refused.value.reason is Refusal.DATA_DIR_UNUSABLE


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert holder_of(folder_lock(tmp_path)) is None
