"""Unpacks archives that strangers made.

Refused are links, names that lead elsewhere, encryption, duplicates, and archives that would grow
past caps on count, bytes or ratio. Sizes are counted while unpacking: headers may lie.
"""

import hashlib
import lzma
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CHUNK = 256 * 1024
_LONGEST_NAME = 255  # bytes; what file systems take
_LONGEST_PATH = 900  # bytes; an object's key has 1024
# What zipfile and its decoders raise on bytes that are not what they should be.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    IndexError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
    lzma.LZMAError,
    zlib.error,
)
_IGNORED_FOLDERS = frozenset({"__MACOSX"})
_IGNORED_NAMES = frozenset({".DS_Store", "Thumbs.db"})


class BadArchive(Exception):
    """The archive is refused; the message names the entry and says why."""


@dataclass(frozen=True)
class Limits:
    """How large an archive may be."""

    files: int = 100_000
    total_bytes: int = 50 * 2**30
    ratio: int = 200
    """Unpacked over packed size, for entries and archives past `ratio_free_bytes`."""
    ratio_free_bytes: int = 10 * 2**20

    def bomb(self, unpacked_bytes: int, packed_bytes: int) -> bool:
        """Whether something grows so much that it was made to."""
        return unpacked_bytes > self.ratio_free_bytes and unpacked_bytes > self.ratio * max(packed_bytes, 1)


@dataclass(frozen=True)
class FileEntry:
    """One unpacked file."""

    path: str
    """Relative to the folder, with slashes."""
    size_bytes: int
    sha256: str


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> list[FileEntry]:
    """Unpack a zip into the new folder `target`; one top folder that holds everything is left out.

    Entries are in order of path. Raises BadArchive, and FileExistsError if there is a `target`
    already; what was unpacked until then is removed.
    """
    limits = limits or Limits()
    packed_bytes = archive.stat().st_size
    with _opened(archive) as opened:
        entries = _wanted(opened, limits)
        target.mkdir(parents=True)
        try:
            return _extract(opened, entries, target, limits, packed_bytes)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise BadArchive(f"the file is not a whole zip archive ({error}). Pack it again.") from None


def _wanted(opened: zipfile.ZipFile, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Entries to unpack, by the path that they get."""
    files = [info for info in opened.infolist() if not info.filename.endswith("/")]
    if len(files) > limits.files:
        text = f"the archive holds {len(files)} files; at most {limits.files} are taken. Split it."
        raise BadArchive(text)
    for info in files:
        _check_entry(info)
    kept = [info for info in files if not _ignored(PurePosixPath(info.filename))]
    if not kept:
        raise BadArchive("the archive holds no files. Pack the folder with its files.")
    if sum(info.file_size for info in kept) > limits.total_bytes:  # before the disk is filled for nothing
        raise BadArchive(_too_large(limits))
    top = _common_top([PurePosixPath(info.filename) for info in kept])
    by_path: dict[str, zipfile.ZipInfo] = {}
    for info in kept:
        path = PurePosixPath(info.filename)
        relative = str(path.relative_to(top)) if top else str(path)
        if relative in by_path:
            raise BadArchive(f"{info.filename!r} is in the archive twice. Rename one of them.")
        by_path[relative] = info
    _refuse_names_alike(by_path)
    return by_path


def _refuse_names_alike(paths: Iterable[str]) -> None:
    """Two names that differ in case alone are one file where a runner's disk knows no case."""
    folded: dict[str, str] = {}
    for path in paths:
        other = folded.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            raise BadArchive(f"{path!r} and {other!r} are one name on many disks. Rename one of them.")


def _check_entry(info: zipfile.ZipInfo) -> None:
    name = info.filename
    path = PurePosixPath(name)
    if not path.parts:
        raise BadArchive(f"{name!r} is no name for a file. Rename the file.")
    if "\\" in name or "\x00" in name or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise BadArchive(f"{name!r} leads out of the archive. Pack it with relative names.")
    if any(ord(character) < 32 or character == "\x7f" for character in name):
        raise BadArchive(f"{name!r} holds a control character. Rename the file.")
    if any(len(part.encode()) > _LONGEST_NAME for part in path.parts) or len(name.encode()) > _LONGEST_PATH:
        raise BadArchive(f"{name[:80]!r}… is too long a name. Rename the file.")
    mode = info.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0):
        raise BadArchive(f"{name!r} is a link or a special file. Pack the files themselves.")
    if info.flag_bits & 0x1:
        raise BadArchive(f"{name!r} is encrypted. Pack it without a password.")


def _ignored(path: PurePosixPath) -> bool:
    return path.name in _IGNORED_NAMES or path.name.startswith("._") or path.parts[0] in _IGNORED_FOLDERS


def _common_top(paths: Sequence[PurePosixPath]) -> str | None:
    """The one folder that holds everything, unless its name means something in a dataset."""
    tops = {path.parts[0] for path in paths}
    if len(tops) != 1 or any(len(path.parts) == 1 for path in paths):
        return None
    top = tops.pop()
    return None if top in {"images", "labels", "train", "val", "valid", "test", "annotations"} else top


def _extract(
    opened: zipfile.ZipFile,
    entries: dict[str, zipfile.ZipInfo],
    target: Path,
    limits: Limits,
    packed_bytes: int,
) -> list[FileEntry]:
    unpacked, total = [], 0
    for path, info in sorted(entries.items()):
        entry = _extract_one(opened, info, target / path, path, limits, limits.total_bytes - total)
        unpacked.append(entry)
        total += entry.size_bytes
        if limits.bomb(total, packed_bytes):  # entries may share their packed bytes
            raise BadArchive(_bomb("the archive", limits))
    return unpacked


def _extract_one(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, path: str, limits: Limits, left: int
) -> FileEntry:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with place.open("xb") as file:
            for chunk in _chunks(opened, info):
                size += len(chunk)
                if size > left:
                    raise BadArchive(_too_large(limits))
                if limits.bomb(size, info.compress_size):
                    raise BadArchive(_bomb(repr(info.filename), limits))
                digest.update(chunk)
                file.write(chunk)
    except FileExistsError:
        text = f"{info.filename!r} is a file and a folder at once. Rename one of them."
        raise BadArchive(text) from None
    except NotADirectoryError:
        raise BadArchive(f"{info.filename!r} lies below a file. Rename one of them.") from None
    return FileEntry(path, size, digest.hexdigest())


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The unpacked bytes of an entry; its checksum is compared at the end."""
    try:
        with opened.open(info) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except NotImplementedError as error:
        text = f"{info.filename!r} is packed in a way that is not read here ({error}). Pack it with Deflate."
        raise BadArchive(text) from None
    except _DAMAGE as error:
        raise BadArchive(f"{info.filename!r} is damaged ({error}). Pack it again.") from None


def _bomb(what: str, limits: Limits) -> str:
    return f"{what} grows more than {limits.ratio} times when unpacked. Pack files with real content."


def _too_large(limits: Limits) -> str:
    return (
        f"the archive holds more than {limits.total_bytes} bytes. Split it, or leave out what is not needed."
    )


def file_entry(folder: Path, path: str) -> FileEntry:
    """A file below `folder`, as if it had been unpacked there."""
    content = (folder / path).read_bytes()
    return FileEntry(path, len(content), hashlib.sha256(content).hexdigest())


def dataset_digest(entries: Iterable[FileEntry]) -> str:
    """SHA-256 over a line "sha256 size path" for each file, in order of path."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path):
        digest.update(f"{entry.sha256} {entry.size_bytes} {entry.path}\n".encode())
    return digest.hexdigest()
