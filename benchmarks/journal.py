"""How many messages a second an agent's journal takes, beside a bare file.

    python benchmarks/journal.py [--messages 100000] [--rounds 3]

The journal appends each message as one checksummed record with one write(); the bare file takes the
same payloads with one write() each. Neither waits for the disk. Small messages are progress of a
batch, large ones predictions with masks.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from runners.agent.journal import Identity, Journal

SIZES = {"small": 60, "large": 16_000}
LARGE_SHARE = 20
"""So many times fewer large messages than small ones."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000, help="small ones")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.messages} messages, median of {arguments.rounds} rounds\n")
    print(f"{'':<8}{'bytes':>7}{'journal appends/s':>20}{'MB/s':>8}{'bare writes/s':>16}{'ratio':>8}")
    for title, size in SIZES.items():
        count = arguments.messages // (1 if title == "small" else LARGE_SHARE)
        journal, bare = (
            statistics.median(_rate(way, count, os.urandom(size)) for _ in range(arguments.rounds))
            for way in (_append, _write)
        )
        megabytes = journal * size / 1e6
        print(f"{title:<8}{size:>7,}{journal:>20,.0f}{megabytes:>8,.0f}{bare:>16,.0f}{journal / bare:>8.2f}")


def _rate(way: Callable[[Path, int, bytes], None], count: int, payload: bytes) -> float:
    with tempfile.TemporaryDirectory(prefix="visionmesh-benchmark-") as folder:
        begin = perf_counter()
        way(Path(folder), count, payload)
        return count / (perf_counter() - begin)


def _append(folder: Path, count: int, payload: bytes) -> None:
    """As an outbox does: what is acknowledged, a thousand messages behind, is forgotten."""
    journal = Journal(folder, Identity("jobs/benchmark", 1, "progress"))
    for number in range(1, count + 1):
        journal.append(number, payload)
        if number % 1000 == 0:
            journal.forget_before(number - 1000)
    journal.close()


def _write(folder: Path, count: int, payload: bytes) -> None:
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(count):
        os.write(descriptor, payload)
    os.close(descriptor)


if __name__ == "__main__":
    main()
