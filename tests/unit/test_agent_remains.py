"""What a dead agent has left is given up only when the scheduler has it, or wants none of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners.agent.journal import Identity, Journal
from runners.agent.remains import found
from runners.agent.stream import AttemptLost, NumberedStream
from runners.agent.streams import Journals
from visionmesh.v1 import progress_pb2

LINE = progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message="said before the end"))


def means(folder: Path) -> Any:
    """An agent's means, as far as they are used, with one line in the journal of one attempt."""
    journal = Journal(folder / "j-1", Identity("jobs/j", 1, "progress"))
    journal.append(1, LINE.SerializeToString())
    journal.close()
    nobody = SimpleNamespace(ReportProgress=None, PublishResults=None)
    return SimpleNamespace(journals=Journals(folder), progress=nobody, results=nobody)


@pytest.mark.parametrize(
    ("error", "is_kept"), [(RuntimeError("a defect"), True), (AttemptLost("superseded"), False)]
)
async def test_a_journal_outlives_a_defect_but_not_its_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, is_kept: bool
) -> None:
    async def run(self: object) -> None:
        raise error

    monkeypatch.setattr(NumberedStream, "run", run)
    made = means(tmp_path)
    (remains,) = found(made)
    await remains.run()
    assert remains.told is not is_kept
    assert [again.ref.job for again in found(made)] == (["jobs/j"] if is_kept else [])
