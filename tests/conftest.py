"""What a test needs and a machine may lack: a skip that says how to install it, a failure where CI is set."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import ceph_server
import pytest
from ceph_server import CephServer
from postgres_server import INSTALL, PostgresServer, programs, serving

# Before any test imports PyTorch: threads that spin while they wait would starve the tests beside.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Lack = Callable[[str], None]
Require = Callable[[str, str], str]


@pytest.fixture(scope="session")
def lack() -> Lack:
    """Ends the test because of what the machine lacks: `lack("root: sudo make test")`."""

    def end(what: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(f"{what} (where CI is set nothing is skipped)")
        pytest.skip(what)

    return end


@pytest.fixture(scope="session")
def require(lack: Lack) -> Require:
    """Finds a program: `require("npm", "apt-get install npm")` is its path, or the end of the test."""

    def find(program: str, install: str) -> str:
        found = shutil.which(program)
        if found is None:
            lack(f"{program} is not on PATH: {install}")
        return found or ""

    return find


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL for the whole run; skips with the install line, or fails where CI is set."""
    found = programs()
    if found is None:
        lack = f"PostgreSQL is not installed: {INSTALL}"
        pytest.fail(lack) if os.environ.get("CI") else pytest.skip(lack)
    with serving(found) as server:
        yield server


@pytest.fixture(scope="session")
def ceph(require: Require) -> Iterator[CephServer]:
    """A real S3 for the whole run: Ceph's gateway, with its objects in memory."""
    for program in ceph_server.PROGRAMS:
        require(program, ceph_server.INSTALL)
    with ceph_server.serving() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()
