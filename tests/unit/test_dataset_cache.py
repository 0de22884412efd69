"""Datasets on a runner: fetched once, labels read once, the oldest gone first, none while it is used."""

import asyncio
import os
from pathlib import Path

import pytest

from runners.agent.dataset_cache import DatasetCache, remove_leftovers
from visionmesh.datasets import formats
from visionmesh.datasets.formats import format_of
from visionmesh.datasets.kept import kept_beside, layout_of
from visionmesh.shapes import write_class_folders, write_shapes

KIB = 1024


class Source:
    """Fills folders with a file of so many bytes, and counts."""

    def __init__(self, size: int = KIB) -> None:
        self.size, self.filled = size, 0

    async def fill(self, folder: Path) -> None:
        self.filled += 1
        await asyncio.sleep(0)
        (folder / "images").mkdir()
        (folder / "images" / "a.bin").write_bytes(b"x" * self.size)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.asyncio
async def test_attempts_at_once_fetch_a_dataset_once(tmp_path: Path) -> None:
    cache, source = DatasetCache(tmp_path, 10 * KIB), Source()
    found = await asyncio.gather(*(cache.get("a" * 64, source.fill, holder) for holder in range(5)))
    assert (set(found), source.filled) == ({tmp_path / ("a" * 64)}, 1)
    again = DatasetCache(tmp_path, 10 * KIB)  # of the next agent
    assert await again.get("a" * 64, source.fill, "later") == found[0]
    assert source.filled == 1


@pytest.mark.asyncio
async def test_what_was_not_used_for_the_longest_goes_first(tmp_path: Path) -> None:
    cache, source = DatasetCache(tmp_path, 3 * KIB), Source()
    for at, name in enumerate("abc"):
        os.utime(await cache.get(name, source.fill, name), (at, at))
        cache.release(name)
    await cache.get("a", source.fill, "again")
    cache.release("again")
    await cache.get("d", source.fill, "d")
    assert names(tmp_path) == ["a", "a.labels", "c", "c.labels", "d", "d.labels"]
    await cache.get("b", source.fill, "b")
    assert (names(tmp_path)[::2], source.filled) == (["a", "b", "d"], 5)


@pytest.mark.asyncio
async def test_what_is_used_stays_however_large(tmp_path: Path) -> None:
    cache, source = DatasetCache(tmp_path, 0), Source()
    for name in "ab":
        os.utime(await cache.get(name, source.fill, name), (1, 1))
    assert names(tmp_path)[::2] == ["a", "b"]
    cache.release("a")
    await cache.get("c", source.fill, "c")
    assert names(tmp_path)[::2] == ["b", "c"]


@pytest.mark.asyncio
async def test_labels_that_are_kept_count_and_go_too(tmp_path: Path) -> None:
    cache, source = DatasetCache(tmp_path, 3 * KIB), Source()
    kept = kept_beside(await cache.get("a", source.fill, "a"))
    (kept / "labels").write_bytes(b"x" * 2 * KIB)
    cache.release("a")
    await cache.get("b", source.fill, "b")
    assert names(tmp_path) == ["b", "b.labels"]


@pytest.mark.asyncio
async def test_a_fetch_that_failed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    cache, source = DatasetCache(tmp_path, 10 * KIB), Source()

    async def broken(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await cache.get("a", broken, "a")
    assert names(tmp_path) == [".a.part"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []
    await cache.get("a", source.fill, "a")
    assert names(tmp_path) == ["a", "a.labels"]


@pytest.mark.parametrize("task", ["detect", "pose", "classify"])
def test_labels_are_read_once(tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    if task == "classify":
        write_class_folders(folder, train=6, val=3, test=0, size=32)
    else:
        write_shapes(folder, train=4, val=2, test=0, size=32, task=task)
    plain = format_of(folder)
    report, labels = plain.check(folder), list(plain.labelled_images(folder, "train", task))
    layout_of(folder).check(folder)
    assert not kept_beside(folder).exists()  # nobody has made room for it
    kept_beside(folder).mkdir()
    for _ in range(2):
        layout = layout_of(folder)
        assert layout.check(folder) == report
        assert list(layout.labelled_images(folder, "train", task)) == labels
        for name in ("YOLO", "CLASS_FOLDERS"):  # from now on nothing is read
            monkeypatch.setattr(formats, name, formats.Format(name, fail, fail, fail))
    assert list(layout.labelled_images(folder, "train", task)) == labels


def fail(*_: object, **__: object) -> None:
    pytest.fail("the labels are read again")


def test_a_dataset_with_problems_is_checked_each_time(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", train=4, val=2, test=0, size=32)
    (tmp_path / "data/labels/train/00000.txt").write_text("9")
    kept_beside(tmp_path / "data").mkdir()
    assert layout_of(tmp_path / "data").check(tmp_path / "data").problem_count == 1
    assert names(kept_beside(tmp_path / "data")) == []
