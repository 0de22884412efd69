"""The messages of one stream on disk, so that the death of an agent loses none of them.

    segment = magic, record 0 (the header: format version, job, attempt, stream, first number), records
    record  = payload bytes (4), number (8), CRC-32 of both and the payload (4), payload

Each record is one write(): what the kernel has taken survives SIGKILL of the agent. It does not survive a
power cut before the kernel has written it out; then the valid prefix is left, and the attempt is tried
again like any other whose runner is gone. Segments go as soon as nothing in them is wanted any more.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SEGMENT_BYTES = 4 * 1024 * 1024
"""Size from which the next record begins another segment."""

FORMAT_VERSION = 1
"""Written into each header; a journal of another version is not read."""

_MAGIC = b"VMJRNL\r\n"
_HEAD = struct.Struct("<IQ")
_SUM = struct.Struct("<I")
_RECORD_BYTES = _HEAD.size + _SUM.size


@dataclass(frozen=True)
class Identity:
    """Whose messages they are."""

    job: str
    """jobs/{job}."""

    attempt: int
    stream: str
    """progress or results."""


class Place(NamedTuple):
    """Where a payload lies."""

    segment: Path
    offset: int
    size: int


class Record(NamedTuple):
    """A message that was found again. A later record of the same number takes the place of an earlier one."""

    number: int
    place: Place


class Journal:
    """Appends records, and reads them back. Nothing is on disk before the first record."""

    def __init__(self, folder: Path, identity: Identity, segment_bytes: int = SEGMENT_BYTES) -> None:
        """`folder` may be shared by the streams of an attempt."""
        self._folder, self.identity, self._segment_bytes = folder, identity, segment_bytes
        self._segments: dict[Path, int] = {}
        """Last number in each, oldest first."""
        self._active: Path | None = None
        self._descriptor = -1
        self._size = 0
        self._count = 0

    def append(self, number: int, payload: bytes) -> Place:
        """Write a record behind the others. Raises OSError, and has then written nothing."""
        segment = self._active
        if segment is None or self._size >= self._segment_bytes:
            segment = self._begin(number)
        start = self._size
        self._write(_record(number, payload))
        self._segments[segment] = max(number, self._segments[segment])
        return Place(segment, start + _RECORD_BYTES, len(payload))

    def read(self, place: Place) -> bytes:
        """A payload. Raises OSError if it cannot be read."""
        descriptor = self._descriptor
        if place.segment != self._active:
            descriptor = os.open(place.segment, os.O_RDONLY)
        try:
            payload = os.pread(descriptor, place.size, place.offset)
        finally:
            if descriptor != self._descriptor:
                os.close(descriptor)
        if len(payload) != place.size:
            raise OSError(f"the journal {place.segment} is shorter than it was")
        return payload

    def forget_before(self, number: int) -> None:
        """Remove the segments of which everything comes before `number`, but never the one that grows."""
        for segment, last in list(self._segments.items()):
            if segment == self._active or last >= number:
                return
            segment.unlink(missing_ok=True)
            del self._segments[segment]

    def clear(self) -> None:
        """Remove everything; the next record begins a new segment."""
        self.close()
        for segment in self._segments:
            segment.unlink(missing_ok=True)
        self._segments.clear()

    def close(self) -> None:
        """Let go of the file; what is on disk stays, and the next record begins a new segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._active, self._size = -1, None, 0

    def recover(self) -> list[Record]:
        """What an agent before this one has written: the longest prefix that is whole.

        What lies behind it is of no use and is cut off.
        """
        found: list[Record] = []
        last, whole = None, True
        for segment in sorted(self._folder.glob(f"{self.identity.stream}-*")):
            self._count = int(segment.name.rpartition("-")[2])
            records = list(_records(segment, self.identity, last)) if whole else []
            if not records:
                whole = False
                segment.unlink()
                continue
            found += records
            last = max(last or 0, *(record.number for record in records))
            self._segments[segment] = last
            end = records[-1].place.offset + records[-1].place.size
            whole = segment.stat().st_size == end
            os.truncate(segment, end)
        return found

    def _begin(self, number: int) -> Path:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        path = self._folder / f"{self.identity.stream}-{self._count:09}"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._active = path
        try:
            self._write(_MAGIC + _record(0, _header(self.identity, number)))
        except OSError:
            self.close()
            path.unlink()
            raise
        self._segments[path] = number
        return path

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
            if written < len(data):  # the disk took a part: the next write says why it is full
                os.write(self._descriptor, data[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)


def identities(folder: Path) -> list[Identity]:
    """The streams of which `folder` holds a beginning."""
    found: dict[Identity, None] = {}
    for segment in sorted(folder.iterdir()):
        header = _parsed(segment)
        if header is not None:
            found[header] = None
    return list(found)


def _header(identity: Identity, first: int) -> bytes:
    told = {"version": FORMAT_VERSION, "first": first, **vars(identity)}
    return json.dumps(told).encode()


def _record(number: int, payload: bytes) -> bytes:
    return _sealed(number, payload) + payload


def _sealed(number: int, payload: bytes | memoryview) -> bytes:
    head = _HEAD.pack(len(payload), number)
    return head + _SUM.pack(zlib.crc32(payload, zlib.crc32(head)))


def _parsed(segment: Path) -> Identity | None:
    """Whose segment that is; None if its header is damaged or of another version."""
    with segment.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
        head = file.read(_RECORD_BYTES)
        if len(head) < _RECORD_BYTES:
            return None
        size, number = _HEAD.unpack_from(head)
        payload = file.read(min(size, 4096))
    if number or head + payload != _record(0, payload):
        return None
    told = json.loads(payload)
    if told.get("version") != FORMAT_VERSION:
        return None
    return Identity(told["job"], told["attempt"], told["stream"])


def _records(segment: Path, identity: Identity, last: int | None) -> Iterator[Record]:
    """The records of a segment up to the first that is damaged, or leaves out numbers after `last`."""
    if _parsed(segment) != identity:
        return
    data = memoryview(segment.read_bytes())
    offset = len(_MAGIC)
    while len(data) - offset >= _RECORD_BYTES:
        size, number = _HEAD.unpack_from(data, offset)
        start = offset + _RECORD_BYTES
        payload = data[start : start + size]
        if len(payload) < size or data[offset:start] != _sealed(number, payload):
            return
        offset = start + size
        if number == 0:
            continue
        if last is not None and number > last + 1:
            return
        last = number if last is None else max(last, number)
        yield Record(number, Place(segment, start, size))
