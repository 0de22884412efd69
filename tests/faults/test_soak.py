"""A short soak on each kind of database: what `make soak` does for minutes."""

from pathlib import Path

import pytest
from soak import LEAST_FAULTS, soak


@pytest.mark.timeout(200)
async def test_nothing_is_lost_doubled_or_left_behind(tmp_path: Path, database_url: str) -> None:
    outcome = await soak(tmp_path, seconds=10, seed=7, database_url=database_url, pause=(0.5, 2))
    print(outcome)
    assert outcome.faults.total() >= LEAST_FAULTS
    assert outcome.jobs["SUCCEEDED"] > 5
    assert outcome.acknowledged > 0
    assert outcome.problems == []
