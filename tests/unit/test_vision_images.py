"""Images are listed in order and read as they are shown; broken ones are told, not raised."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.rpc import error_details_pb2
from PIL import Image
from PIL import ImageFile as PillowFile

from runners.process.errors import UserError
from runners.vision.images import ImageFile, UnreadableImage, list_images, read


def one(path: Path) -> ImageFile:
    return ImageFile(0, path, path.name)


def half_red(path: Path, size: tuple[int, int] = (40, 20), **save: object) -> Path:
    """Left half red, right half black."""
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    image.save(path, **save)  # type: ignore[arg-type]
    return path


def test_pixels_are_blue_first(tmp_path: Path) -> None:
    pixels = read(one(half_red(tmp_path / "a.png")))
    assert pixels.shape == (20, 40, 3)
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels.flags["C_CONTIGUOUS"]


# How a camera stores what it shows, by EXIF orientation: the inverse of what a reader must do.
STORED = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: np.rot90(shown),
    7: lambda shown: shown[::-1, ::-1].swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, 3),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_pixels_are_those_that_are_shown(tmp_path: Path, orientation: int, kind: str) -> None:
    shown = np.zeros((24, 40, 3), dtype=np.uint8)
    shown[:12, :20], shown[12:, 20:] = (255, 0, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](shown)))
    stored.save(tmp_path / "a", kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    pixels = read(one(tmp_path / "a"))[..., ::-1]
    assert pixels.shape == shown.shape
    assert np.abs(pixels[4, 4].astype(int) - (255, 0, 0)).max() < 30
    assert np.abs(pixels[20, 36].astype(int) - (0, 0, 255)).max() < 30
    assert pixels[4, 36].max() < 30


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_other_colour_modes_become_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (8, 8)).save(path)
    assert read(one(path)).shape == (8, 8, 3)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(tmp_path / "a.png")
    assert read(one(tmp_path / "a.png"))[0, 0].tolist() == [0x80] * 3


def test_thirty_two_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match="save it with 8 or 16"):
        read(one(tmp_path / "a.tif"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue", "lime")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], **lossless)
    pixels = read(one(tmp_path / "a"))
    assert pixels.shape == (8, 16, 3)
    assert pixels[4, 8].tolist() == [0, 0, 255]


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read(one(tmp_path / "a.png"))[0, 0].tolist() == [0, 0, 255]


def cut(path: Path) -> Path:
    half_red(path, (200, 200))
    path.write_bytes(path.read_bytes()[:-200])
    return path


def text(path: Path) -> Path:
    path.write_text("not an image")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("broken", [cut, text, empty, lambda path: path])
def test_a_broken_image_is_told_by_name(tmp_path: Path, broken: object) -> None:
    path = broken(tmp_path / "photo.jpg")  # type: ignore[operator]
    with pytest.raises(UnreadableImage, match=r"photo\.jpg cannot be read") as caught:
        read(one(path))
    info = error_details_pb2.ErrorInfo()
    assert caught.value.status().details[0].Unpack(info)
    assert info.reason == "IMAGE_UNREADABLE"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"])
def test_an_image_past_the_pixel_cap_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a bomb was decoded")

    half_red(tmp_path / "a", format=kind)
    monkeypatch.setattr("visionmesh.datasets.images.MAX_PIXELS", 799)
    monkeypatch.setattr(PillowFile.ImageFile, "load", load)
    with pytest.raises(UnreadableImage, match="40 x 20 pixels"):
        read(one(tmp_path / "a"))


def test_formats_off_the_list_are_refused_whatever_their_name(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage):
        read(one(tmp_path / "a.jpg"))


def test_a_folder_is_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    listed = list_images(tmp_path)
    assert [(image.index, image.path.name) for image in listed] == [(0, "a.png"), (1, "b.JPG"), (2, "c.webp")]


def test_a_list_keeps_order_and_the_users_names(tmp_path: Path) -> None:
    lines = [{"path": "/data/1", "uri": "s3://b/z.jpg"}, {"path": "/data/0", "uri": "s3://b/a.jpg"}]
    (tmp_path / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(str(image.path), image.uri) for image in list_images(tmp_path / "images.jsonl")] == [
        ("/data/1", "s3://b/z.jpg"),
        ("/data/0", "s3://b/a.jpg"),
    ]


def test_a_bad_line_of_a_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.jsonl").write_text('{"path": "a", "uri": "a"}\n{"uri": "b"}\n')
    with pytest.raises(UserError, match=r"images\.jsonl:2"):
        list_images(tmp_path / "images.jsonl")


def test_no_images_is_an_error_of_the_user(tmp_path: Path) -> None:
    for source in (None, tmp_path / "absent", tmp_path):
        with pytest.raises(UserError) as caught:
            list_images(source)
        assert caught.value.reason == "IMAGES_NOT_FOUND"


def test_text_named_like_an_image_is_refused_in_words_even_as_the_first_thing_read(tmp_path: Path) -> None:
    """In a process of its own: Pillow learns of formats as it goes."""
    (tmp_path / "text.jpg").write_text("hello")
    script = (
        "import sys; from pathlib import Path\n"
        "from runners.vision.images import ImageFile, UnreadableImage, read\n"
        "try: read(ImageFile(0, Path(sys.argv[1]), 'text.jpg'))\n"
        "except UnreadableImage as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "text.jpg")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "it is no image of a known format; save it as one of JPEG, PNG" in said
