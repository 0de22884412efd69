"""What the tests of faults share."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from network import SCHEDULER, Network, linked_hosts
from wall_clock import WallClock, made_wall_clock


@pytest.fixture
async def network(
    require: Callable[[str, str], str], lack: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Network]:
    """Two hosts with a link between them, as network namespaces."""
    for program, package in (
        ("ip", "iproute2"),
        ("tc", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
    ):
        require(program, f"apt-get install {package}")
    if os.geteuid():
        lack("network namespaces need root: run the tests as root")
    async with linked_hosts() as hosts:
        monkeypatch.setenv("no_grpc_proxy", f"{SCHEDULER},{hosts.control}")
        yield hosts


@pytest.fixture
async def wall_clock(require: Callable[[str, str], str], tmp_path: Path) -> WallClock:
    """A wall clock for processes that a test starts."""
    require("cc", "apt-get install gcc libc6-dev")
    return await made_wall_clock(tmp_path)
