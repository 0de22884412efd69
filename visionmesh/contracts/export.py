"""Writes the contracts and everything that they import below one folder."""

from pathlib import Path

from visionmesh import __version__
from visionmesh.contracts.sources import proto_files

_README = Path(__file__).with_name("export_readme.md")


def export(folder: Path, *, force: bool = False) -> list[str]:
    """Write below `folder` all that protoc needs for a client, and a README; the names written.

    Raises NotADirectoryError if `folder` is a file, and FileExistsError if it is not empty, unless `force`
    is set: then files of the same names are overwritten, and others stay.
    """
    _refuse(folder, force=force)
    readme = _README.read_bytes().replace(b"{version}", __version__.encode())
    files = {**proto_files(), "README.md": readme}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(files)


def _refuse(folder: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; the contracts need a folder. Name another place.")
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if there and not force:
        named = ", ".join(there[:3]) + (", …" if len(there) > 3 else "")
        raise FileExistsError(
            f"{folder} is not empty: it holds {named}. Name a new folder; or say --force, "
            "which overwrites files of the same names and leaves the others."
        )
