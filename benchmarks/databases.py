"""The databases that are compared: for each a mesh without runners."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from visionmesh.cli.mesh import LocalMesh, MeshSettings, local_mesh

sys.path.append(str(Path(__file__).parents[1] / "tests" / "integration"))

from postgres_server import INSTALL, programs, serving

KINDS = ("sqlite", "postgresql")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let the caller choose databases."""
    parser.add_argument("--database", nargs="+", choices=KINDS, default=KINDS, help="default: both in turn")


@asynccontextmanager
async def mesh_on(database: str, folder: Path) -> AsyncIterator[LocalMesh]:
    """A scheduler on a new database of that kind, which writes to the disk before it says so."""
    with _url(database, folder) as url:
        os.environ["DATABASE_URL"] = url
        try:
            async with local_mesh(MeshSettings(folder / database, runners=0)) as mesh:
                yield mesh
        finally:
            del os.environ["DATABASE_URL"]


@contextmanager
def _url(database: str, folder: Path) -> Iterator[str]:
    if database == "sqlite":
        yield f"sqlite:///{folder}/benchmark.db"
        return
    found = programs()
    if found is None:
        sys.exit(f"PostgreSQL is not installed: {INSTALL}, or choose --database sqlite")
    with serving(found) as server:
        server.run_sql("ALTER SYSTEM SET fsync = on")  # tests do without
        server.run_sql("SELECT pg_reload_conf()")
        yield server.new_database()
