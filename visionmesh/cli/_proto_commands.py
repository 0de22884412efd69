"""vmesh protos: the contracts, for clients in other languages."""

import asyncio
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from rich.console import Console

from visionmesh.cli._console import data_console
from visionmesh.cli._run import Exit, run


def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where to: a folder that is new or empty.", show_default=False),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty; other files stay.")
    ] = False,
) -> None:
    """Write the contracts with all that they import: DIR is complete for protoc and buf, in any language."""
    run(write(folder.expanduser(), force=force))


async def write(folder: Path, *, force: bool) -> Exit:
    """Write the contracts and say what there is to do with them."""
    from visionmesh import contracts

    names = await asyncio.to_thread(contracts.export, folder, force=force)
    show(data_console(), folder, names)
    return Exit.OK


def show(out: Console, folder: Path, names: list[str]) -> None:
    """Print how many files went where."""
    counts = Counter(PurePosixPath(name).parent.as_posix() for name in names if name.endswith(".proto"))
    listed = ", ".join(f"{package} ({count})" for package, count in counts.items())
    out.print(f"Wrote {counts.total()} contracts to {folder}: {listed}", markup=False, soft_wrap=True)
    out.print(f"How to generate a client from them: {folder / 'README.md'}", markup=False, soft_wrap=True)
