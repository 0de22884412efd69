"""Archives that strangers made: what is unpacked, and what is refused."""

import hashlib
import io
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionmesh.client import _archive
from visionmesh.datasets.archives import BadArchive, FileEntry, Limits, dataset_digest, unpack

MIB = 2**20


def pack(
    folder: Path, *files: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED
) -> Path:
    archive = folder / "upload.zip"
    with zipfile.ZipFile(archive, "w", compression) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name, data in files:
            opened.writestr(name, data)
    return archive


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def refused(archive: Path, limits: Limits | None = None) -> str:
    target = archive.parent / "files"
    with pytest.raises(BadArchive) as raised:
        unpack(archive, target, limits)
    assert not target.exists()
    return str(raised.value)


def test_files_come_out_with_size_and_digest_in_order_of_path(tmp_path: Path) -> None:
    files = {"images/train/b.jpg": b"B" * 1000, "data.yaml": b"names: [a]", "images/train/a.jpg": b""}
    archive = pack(tmp_path, *files.items(), compression=zipfile.ZIP_DEFLATED)
    found = unpack(archive, tmp_path / "files")
    assert found == [
        FileEntry(name, len(files[name]), hashlib.sha256(files[name]).hexdigest()) for name in sorted(files)
    ]
    assert {name: (tmp_path / "files" / name).read_bytes() for name in files} == files


@pytest.mark.parametrize(
    ("names", "unpacked"),
    [
        (["set/images/a.jpg", "set/data.yaml"], ["data.yaml", "images/a.jpg"]),
        (["set/", "set/a.jpg", "__MACOSX/set/._a.jpg", "set/.DS_Store"], ["a.jpg"]),
        (["set/deep/a.jpg"], ["deep/a.jpg"]),
        (["images/a.jpg", "images/b.jpg"], ["images/a.jpg", "images/b.jpg"]),
        (["train/images/a.jpg"], ["train/images/a.jpg"]),
        (["a/1.jpg", "b/2.jpg"], ["a/1.jpg", "b/2.jpg"]),
        (["a.jpg", "._a.jpg", "Thumbs.db"], ["a.jpg"]),
        (["./set/a.jpg", "set//b.jpg"], ["a.jpg", "b.jpg"]),
        (["straße/ü/猫.jpg"], ["ü/猫.jpg"]),
    ],
)
def test_one_top_folder_and_litter_are_left_out(
    tmp_path: Path, names: list[str], unpacked: list[str]
) -> None:
    found = unpack(pack(tmp_path, *((name, b"") for name in names)), tmp_path / "files")
    assert [file.path for file in found] == unpacked


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../a",
        "a/../../b",
        "a/..",
        "..",
        ".",
        "a\\b",
        "..\\a",
        "C:/a",
        "c:a",
        "a\nb",
        "a\x7f",
        "x" * 256,
        "/".join(["x" * 200] * 5),
    ],
)
def test_names_that_lead_elsewhere_are_refused_and_named(tmp_path: Path, name: str) -> None:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    message = refused(pack(tmp_path, ("fine.jpg", b""), (info, b"x")))
    assert repr(name)[1:40] in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["upload.zip"]


def test_an_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("x", b"data"))
    raw = archive.read_bytes()
    at = raw.index(b"PK\x01\x02")
    # The same directory entry with a name of no characters.
    nameless = raw[: at + 28] + b"\0\0" + raw[at + 30 : at + 46] + raw[at + 47 :]
    end = nameless.index(b"PK\x05\x06")
    size = struct.unpack("<L", nameless[end + 12 : end + 16])[0] - 1
    archive.write_bytes(nameless[: end + 12] + struct.pack("<L", size) + nameless[end + 16 :])
    assert "no name" in refused(archive)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    message = refused(pack(tmp_path, (entry("images/link", kind | 0o777), b"/etc/passwd")))
    assert "'images/link' is a link or a special file" in message


def test_a_file_twice_is_refused_however_it_is_spelt(tmp_path: Path) -> None:
    assert "'a/b' is in the archive twice" in refused(
        pack(tmp_path, ("a/b", b"1"), ("c", b""), ("a/b", b"2"))
    )
    assert "'a//b' is in the archive twice" in refused(
        pack(tmp_path, ("a/b", b""), ("c", b""), ("a//b", b""))
    )


@pytest.mark.parametrize("names", [["a/Cat.jpg", "a/cat.JPG"], ["A/x", "a/x"], ["\u00fc.jpg", "u\u0308.jpg"]])
def test_names_that_are_one_on_many_disks_are_refused(tmp_path: Path, names: list[str]) -> None:
    said = refused(pack(tmp_path, *((name, b"") for name in names)))
    assert "are one name on many disks. Rename one" in said


@pytest.mark.parametrize("names", [["a", "a/b", "c"], ["a/b", "a", "c"], ["a", "a/b/c", "d"]])
def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path, names: list[str]) -> None:
    assert "'a/b" in refused(pack(tmp_path, *((name, b"") for name in names)))


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("secret.jpg", b"data"))
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x03\x04") + 6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    assert "'secret.jpg' is encrypted" in refused(archive)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" * 20])
def test_what_is_no_archive_or_empty_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "upload.zip").write_bytes(data)
    assert refused(tmp_path / "upload.zip")


def test_an_archive_of_litter_holds_no_files(tmp_path: Path) -> None:
    assert "no files" in refused(pack(tmp_path, ("__MACOSX/a", b""), (".DS_Store", b""), ("folder/", b"")))


def test_flipped_bytes_are_found_and_the_entry_named(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("a.jpg", b"A" * 100), ("b.jpg", b"B" * 100))
    archive.write_bytes(archive.read_bytes().replace(b"B" * 100, b"B" * 99 + b"C"))
    assert "'b.jpg' is damaged" in refused(archive)


def test_a_packing_that_is_not_read_here_is_said_so(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("a.jpg", b"data"))
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x03\x04") + 8] = raw[raw.index(b"PK\x01\x02") + 10] = 93  # Zstandard
    archive.write_bytes(raw)
    assert "'a.jpg' is packed in a way that is not read here" in refused(archive)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path, *((f"{number}.jpg", b"") for number in range(4)))
    assert "4 files; at most 3" in refused(archive, Limits(files=3))
    assert len(unpack(archive, tmp_path / "ok", Limits(files=4))) == 4


def test_too_many_bytes_are_refused_before_any_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path, ("a", b"x" * 60), ("b", b"x" * 60))
    assert len(unpack(archive, tmp_path / "ok", Limits(total_bytes=120))) == 2
    monkeypatch.setattr(Path, "mkdir", None)
    assert "more than 119 bytes" in refused(archive, Limits(total_bytes=119))


def test_sizes_are_counted_although_headers_lie(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("a", b"x" * 100), ("b", b"y" * 100))
    raw = bytearray(archive.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<L", 1)
    archive.write_bytes(raw)
    assert refused(archive, Limits(total_bytes=150))


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("zeros.bmp", bytes(11 * MIB)), compression=zipfile.ZIP_DEFLATED)
    assert "'zeros.bmp' grows more than 200 times" in refused(archive)


def test_small_files_may_be_packed_as_tight_as_they_like(tmp_path: Path) -> None:
    archive = pack(tmp_path, ("zeros.bmp", bytes(9 * MIB)), compression=zipfile.ZIP_DEFLATED)
    assert unpack(archive, tmp_path / "files")[0].size_bytes == 9 * MIB


def test_a_bomb_in_many_pieces_is_refused(tmp_path: Path) -> None:
    pieces = [(f"{number}.bmp", bytes(MIB)) for number in range(12)]
    archive = pack(tmp_path, *pieces, compression=zipfile.ZIP_DEFLATED)
    assert "the archive grows more than 200 times" in refused(archive)


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path, ("a.jpg", b"data"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hashlib, "sha256", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_a_target_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        unpack(pack(tmp_path, ("a.jpg", b"")), tmp_path / "files")
    assert (tmp_path / "files" / "mine").read_text() == "mine"


def test_an_archive_that_is_not_there_is_no_bad_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "absent.zip", tmp_path / "files")


def test_the_digest_is_over_lines_in_order_of_path() -> None:
    entries = [FileEntry("b", 2, "bb"), FileEntry("a/c", 1, "aa")]
    assert dataset_digest(entries) == hashlib.sha256(b"aa 1 a/c\nbb 2 b\n").hexdigest()
    assert dataset_digest(reversed(entries)) == dataset_digest(entries)


def test_client_and_scheduler_find_the_same_digest(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in ("images/train/a.jpg", "labels/train/a.txt", "data.yaml", "images/train-b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    _archive.write_archive(_archive.folder_files(folder), tmp_path / "upload.zip")
    found = unpack(tmp_path / "upload.zip", tmp_path / "files")
    assert dataset_digest(found) == _archive.folder_digest(folder)


def _sound_archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for number, method in enumerate([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]):
            opened.writestr(f"images/{number}.jpg", b"some bytes " * 9, method)
        opened.writestr("labels/0.txt", b"0 0.5 0.5 0.2 0.2", zipfile.ZIP_LZMA)
    return packed.getvalue()


SOUND = _sound_archive()


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    raw = bytearray(SOUND)
    for at, value in damage:
        raw[at] = value
    _unpack_or_refuse(tmp_path_factory.mktemp("zip"), bytes(raw))


@given(st.integers(0, len(SOUND)))
@settings(max_examples=100, deadline=None)
def test_an_archive_cut_short_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    _unpack_or_refuse(tmp_path_factory.mktemp("zip"), SOUND[:length])


def _unpack_or_refuse(folder: Path, raw: bytes) -> None:
    (folder / "upload.zip").write_bytes(raw)
    try:
        found = unpack(folder / "upload.zip", folder / "files")
    except BadArchive:
        assert [path.name for path in folder.iterdir()] == ["upload.zip"]
        return
    for file in found:
        data = (folder / "files" / file.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size_bytes, file.sha256)
