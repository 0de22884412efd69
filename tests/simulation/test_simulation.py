"""The mesh under seeded faults keeps its promises, and the simulation would see it if it did not."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from simulate import simulate
from simulated_mesh import Violation
from simulated_store import Store

from runners.agent.outbox import Outbox, OutOfStep
from scheduler.core.machine import IllegalEvent

SEEDS = 1000
FAILED = (2, 105)
"""Seeds that have broken a promise once, whatever the number above becomes."""


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_no_seed_breaks_a_promise(first: int) -> None:
    faults = 0
    for seed in range(first, first + 100):
        try:
            faults += len(simulate(seed).faults)
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}; keep it in FAILED")
    assert faults >= 100, "hardly anything went wrong: nothing was tried"


@pytest.mark.parametrize("seed", FAILED)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    simulate(seed)


def test_a_seed_says_everything() -> None:
    again = [simulate(7) for _ in range(2)]
    assert again[0].faults == again[1].faults
    assert again[0].store.histories == again[1].store.histories
    assert simulate(8).store.histories != again[0].store.histories


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "_fence", lambda *_: None)


def no_deduplication(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Store.take

    def careless(self: Store, job: str, attempt: int, stream: str, first: int, *rest: Any) -> int:
        return take(self, job, attempt, stream, self.committed(job, attempt, stream) + 1, *rest)

    monkeypatch.setattr(Store, "take", careless)


def acknowledges_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Store.take

    def hasty(self: Store, job: str, attempt: int, stream: str, first: int, messages: Any, now: float) -> int:
        if stream == "results" and now % 1 < 0.1:
            return first + len(messages) - 1
        return take(self, job, attempt, stream, first, messages, now)

    monkeypatch.setattr(Store, "take", hasty)


def skips_one(monkeypatch: pytest.MonkeyPatch) -> None:
    resume = Outbox.resume

    def forgetful(self: Outbox[Any], committed: int) -> None:
        resume(self, min(committed + 1, self.last_number))

    monkeypatch.setattr(Outbox, "resume", forgetful)


def leases_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "sweep", lambda *_: None)


@pytest.mark.parametrize(
    "broken", [no_fence, no_deduplication, acknowledges_before_the_commit, skips_one, leases_never_end]
)
def test_a_mesh_that_is_broken_is_found_out(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises((Violation, IllegalEvent, OutOfStep)):
        simulate_all(range(300))


def simulate_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        simulate(seed)
