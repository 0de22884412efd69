"""What an agent holds in memory does not depend on the size of what it moves."""

from pathlib import Path

from ceph_server import CephServer
from transfer_memory import moved

OBJECT_MIB = 256
LIMIT_MIB = 150


async def test_a_large_object_takes_little_memory(ceph: CephServer, tmp_path: Path) -> None:
    sent, fetched = await moved(ceph, tmp_path, OBJECT_MIB, patience=180.0)
    print(
        f"{OBJECT_MIB} MiB: the agent grew by {sent.mib:.0f} MiB sending in {sent.seconds:.1f} s, "
        f"by {fetched.mib:.0f} MiB fetching in {fetched.seconds:.1f} s"
    )
    assert sent.mib < LIMIT_MIB
    assert fetched.mib < LIMIT_MIB
