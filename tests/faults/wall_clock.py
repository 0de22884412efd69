"""A wall clock that is put forward and back under a running process, and nothing else of it."""

import os
from pathlib import Path

from network import run

SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """The wall clock of the processes that are started with its prefix."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library, self._file = library, file
        file.touch()
        self.put(0)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that is to have this clock."""
        return ("env", *(f"{name}={value}" for name, value in self.variables.items()))

    @property
    def variables(self) -> dict[str, str]:
        """What makes a process have this clock."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_OFFSET": str(self._file)}

    def put(self, hours: int) -> None:
        """Let it be that much ahead of this machine's."""
        with self._file.open("r+b", buffering=0) as file:  # in one write: the others have it mapped
            file.write((hours * 3600).to_bytes(8, "little", signed=True))


async def made_wall_clock(folder: Path) -> WallClock:
    """A clock that goes right so far; needs a C compiler."""
    library = folder / "wall_clock.so"
    await run("cc", "-shared", "-fPIC", "-O1", "-o", os.fspath(library), os.fspath(SOURCE))
    return WallClock(library, folder / "wall_clock")
