"""`python tests/simulation/simulate.py --seeds 1000 [--from 0]`: look for a seed that breaks a promise."""

import argparse
import sys
import time
from collections import Counter

from simulated_mesh import EPOCHS, Mesh, Violation
from simulated_store import Entry

from scheduler.core.model import TERMINAL


def simulate(seed: int) -> Mesh:
    """One run, with its promises checked. Raises Violation."""
    mesh = Mesh(seed)
    mesh.run()
    for job, history in mesh.store.histories.items():
        check(job, history)
    return mesh


def check(job: str, history: list[Entry]) -> None:
    """P1 to P4, as a reader of the history sees them. Raises Violation."""
    attempts = [entry.attempt for entry in history]
    if attempts != sorted(attempts):
        raise Violation(f"P4: {job}: an older attempt has written after a newer one")
    ends = [place for place, entry in enumerate(history) if entry.what in {state.value for state in TERMINAL}]
    if ends != [len(history) - 1]:
        raise Violation(f"P3: {job}: its end is at {ends} of {len(history)} entries")
    for stream in ("progress", "results"):
        numbers: dict[int, list[int]] = {}
        for entry in history:
            if entry.what == stream:
                numbers.setdefault(entry.attempt, []).append(entry.number)
        if any(found != list(range(1, len(found) + 1)) for found in numbers.values()):
            raise Violation(f"P2: {job}: {stream} is not numbered from 1, one by one: {numbers}")
    last = [entry.message for entry in history if entry.attempt == attempts[-1] and entry.what == "progress"]
    epochs = [update.epoch_completed.epoch for update in last if update.HasField("epoch_completed")]
    if epochs != list(range(1, EPOCHS + 1)):
        raise Violation(f"P1: {job}: the attempt that succeeded has told the epochs {epochs}")


def main() -> int:
    """Run the seeds; 1 if one breaks a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    chosen = parser.parse_args()
    began, seen = time.monotonic(), Counter[str]()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        try:
            mesh = simulate(seed)
        except Exception as error:
            print(f"seed {seed}: {type(error).__name__}: {error}\nKeep it in FAILED of test_simulation.py.")
            return 1
        seen["faults"] += len(mesh.faults)
        seen["attempts"] += sum(job.attempt for job in mesh.store.jobs.values())
    print(f"{chosen.seeds} seeds, {dict(seen)}, no promise broken, {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
