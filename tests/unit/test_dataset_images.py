"""Image headers: which files are read, and what is said of the others; nothing is decoded to find out."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from visionmesh.datasets import yolo
from visionmesh.datasets.images import MAX_PIXELS, BadImage, open_image, training_problem


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes that claims to be this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def image(path: Path, kind: str, size: tuple[int, int] = (20, 10), mode: str = "RGB") -> Path:
    Image.new(mode, size).save(path, kind)
    return path


def text(path: Path) -> Path:
    path.write_text("no image")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.fixture(autouse=True)
def nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_formats_on_the_list_are_trained_on_whatever_the_file_is_called(tmp_path: Path, kind: str) -> None:
    assert training_problem(image(tmp_path / "a.jpg", kind)) is None


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "I;16"])
def test_every_colour_mode_is_trained_on(tmp_path: Path, mode: str) -> None:
    assert training_problem(image(tmp_path / "a.png", "PNG", mode=mode)) is None


BROKEN: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "text": (text, "no image of a known format", "save it as one of JPEG, PNG"),
    "empty": (empty, "the file is empty", "send it again"),
    "EPS": (lambda path: image(path, "EPS"), "no image of a known format", "save it as"),
    "ICO": (lambda path: image(path, "ICO", (32, 32)), "no image of a known format", "save it as"),
    "GIF": (lambda path: image(path, "GIF"), "no image of a known format", "save it as"),
    "tiny": (lambda path: image(path, "PNG", (40, 9)), "40 x 9 pixels are too few", "10 at least"),
    "just too large": (lambda path: bomb(path, 10_001, 10_000), "10001 x 10000 pixels", "scale it down"),
    "of which Pillow warns": (lambda path: bomb(path, 30_000, 10_000), "100 million", "scale it down"),
    "which Pillow refuses": (lambda path: bomb(path, 10**6, 10**6), "100 million", "scale it down"),
}


@pytest.mark.parametrize(("make", "what", "instead"), BROKEN.values(), ids=BROKEN.keys())
def test_others_are_told_with_what_is_wrong_and_what_would_be_right(
    tmp_path: Path, make: Callable[[Path], Path], what: str, instead: str
) -> None:
    said = training_problem(make(tmp_path / "a.jpg"))
    assert said is not None
    assert what in said
    assert instead in said


def test_the_largest_image_is_let_through(tmp_path: Path) -> None:
    with open_image(bomb(tmp_path / "a.png", MAX_PIXELS // 10_000, 10_000)) as opened:
        assert opened.size == (10_000, 10_000)


def test_a_header_that_breaks_off_is_told(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", "PNG")
    path.write_bytes(path.read_bytes()[:20])
    assert "a.png" not in str(training_problem(path))  # whoever asks knows its name
    assert training_problem(path)


def test_inference_reads_gif_too(tmp_path: Path) -> None:
    path = image(tmp_path / "a.gif", "GIF")
    open_image(path).close()
    with pytest.raises(BadImage):
        open_image(text(tmp_path / "b.gif"))


def test_a_dataset_names_each_image_that_nothing_would_train_on(tmp_path: Path) -> None:
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [cat]")
    images = tmp_path / "images/train"
    image(images / "fine.jpg", "JPEG")
    text(images / "text.jpg")
    bomb(images / "bomb.png", 10**5, 10**5)
    image(images / "moving.gif", "GIF")
    (images / "notes.txt").write_text("not looked at")
    report = yolo.check_folder(tmp_path, open_images=True)
    assert {problem.file for problem in report.problems} == {
        "images/train/text.jpg",
        "images/train/bomb.png",
        "images/train/moving.gif",
    }
    assert report.splits[0].images == 3
    assert yolo.check_folder(tmp_path).problems == []
