"""What the tests of what users drive share."""

import fcntl
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEFAULT_PORT = 50051


@pytest.fixture
def default_port(lack: Callable[[str], None]) -> Iterator[int]:
    """The port of `vmesh up` as it stands in the docs; tests of other processes wait for it."""
    with (Path(tempfile.gettempdir()) / "visionmesh-tests-default-port").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0:
                lack(f"something listens on port {DEFAULT_PORT}: stop it, and run the test again")
        yield DEFAULT_PORT
