"""A short soak: what `make soak` does for minutes."""

from pathlib import Path

import pytest
from soak import soak


@pytest.mark.timeout(200)
async def test_nothing_is_lost_doubled_or_left_behind(tmp_path: Path) -> None:
    outcome = await soak(tmp_path, seconds=15, seed=7)
    print(outcome)
    assert outcome.faults.total() >= 2
    assert outcome.jobs["SUCCEEDED"] > 5
    assert outcome.problems == []
