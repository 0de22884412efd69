"""How much memory an agent takes to move one large object to a bucket and back, and how fast it goes.

    python benchmarks/transfers.py [--mib 2048]

A real scheduler and real agents on Ceph's gateway, whose objects are in memory: twice the object's
size of memory is needed, and its size three times on the disk of temporary files.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "tests" / folder) for folder in ("integration", "faults")]

from ceph_server import serving
from transfer_memory import MIB, moved


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--mib", type=int, default=2048, help="size of the object in MiB (2048)")
    wanted: int = parser.parse_args().mib
    with serving(memory_bytes=(3 * wanted + 1024) * MIB) as ceph, tempfile.TemporaryDirectory() as folder:
        ways = asyncio.run(moved(ceph, Path(folder), wanted, patience=1800.0))
    for name, growth in zip(("sends", "fetches"), ways, strict=True):
        rate = wanted / growth.seconds
        print(f"{name} {wanted} MiB: grew by {growth.mib:.0f} MiB; {growth.seconds:.1f} s, {rate:.0f} MiB/s")


if __name__ == "__main__":
    main()
