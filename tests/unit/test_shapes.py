"""The shapes set is labelled as drawn, and the same every time."""

from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

from visionmesh.shapes import CLASS_NAMES, KEYPOINT_NAMES, write_shapes


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def boxes(label: Path, size: int) -> list[tuple[int, float, float, float, float]]:
    found = []
    for line in label.read_text().splitlines():
        class_id, x, y, width, height = line.split()
        half_width, half_height = float(width) / 2, float(height) / 2
        left, top = float(x) - half_width, float(y) - half_height
        right, bottom = float(x) + half_width, float(y) + half_height
        found.append((int(class_id), left * size, top * size, right * size, bottom * size))
    return found


def test_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    write_shapes(tmp_path / "a", train=3, val=2, test=1)
    write_shapes(tmp_path / "b", train=3, val=2, test=1)
    write_shapes(tmp_path / "c", train=3, val=2, test=1, seed=1)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_more_training_images_leave_the_test_images_as_they_are(tmp_path: Path) -> None:
    write_shapes(tmp_path / "few", train=1, val=0, test=2)
    write_shapes(tmp_path / "many", train=5, val=0, test=2)
    for path in sorted((tmp_path / "few/images/test").iterdir()):
        assert path.read_bytes() == (tmp_path / "many/images/test" / path.name).read_bytes()


def test_layout_is_yolo(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=4, val=3, test=2, size=64)
    for split, count in (("train", 4), ("val", 3), ("test", 2)):
        images = sorted(path.stem for path in (tmp_path / "images" / split).glob("*.jpg"))
        labels = sorted(path.stem for path in (tmp_path / "labels" / split).glob("*.txt"))
        assert len(images) == count
        assert images == labels
    with Image.open(tmp_path / "images/val/00000.jpg") as image:
        assert image.size == (64, 64)
    data = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert list(data["names"].values()) == list(CLASS_NAMES)
    assert data["train"] == "images/train"


def test_a_split_without_images_is_left_out(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=1, val=1, test=0)
    assert not (tmp_path / "images/test").exists()
    assert "test:" not in (tmp_path / "data.yaml").read_text()


def test_each_image_has_one_to_three_shapes_inside_it_that_do_not_touch(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=60, val=0, test=0)
    counts = set()
    for label in (tmp_path / "labels/train").iterdir():
        found = boxes(label, 96)
        counts.add(len(found))
        for number, (_, left, top, right, bottom) in enumerate(found):
            assert 0 <= left < right <= 96
            assert 0 <= top < bottom <= 96
            for _, other_left, other_top, other_right, other_bottom in found[:number]:
                apart_x = right <= other_left or other_right <= left
                apart_y = bottom <= other_top or other_bottom <= top
                assert apart_x or apart_y
    assert counts == {1, 2, 3}


def test_the_colour_at_a_labelled_centre_is_that_of_the_class(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=30, val=0, test=0)
    strongest = {"circle": 0, "square": 1, "triangle": 2}
    for label in (tmp_path / "labels/train").iterdir():
        with Image.open(tmp_path / "images/train" / f"{label.stem}.jpg") as image:
            for class_id, left, top, right, bottom in boxes(label, 96):
                pixel = image.getpixel((int((left + right) / 2), int((top + bottom) / 2)))
                assert isinstance(pixel, tuple)
                assert pixel.index(max(pixel)) == strongest[CLASS_NAMES[class_id]]


def test_images_too_small_for_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 32"):
        write_shapes(tmp_path, size=16)


def coloured(image: Image.Image, box: tuple[float, ...]) -> set[tuple[int, int]]:
    """Pixels inside a box that are not grey."""
    left, top, right, bottom = (round(value) for value in box)
    pixels = ((x, y) for x in range(max(0, left), right) for y in range(max(0, top), bottom))
    return {at for at in pixels if at[0] < image.width and at[1] < image.height and colourful(image, at)}


def colourful(image: Image.Image, at: tuple[int, int]) -> bool:
    pixel = image.getpixel(at)
    assert isinstance(pixel, tuple)
    return max(pixel) - min(pixel) > 60


def inside(corners: list[tuple[float, float]], size: int) -> set[tuple[int, int]]:
    """Pixels whose centres a polygon encloses."""
    large = Image.new("L", (size * 4, size * 4))
    ImageDraw.Draw(large).polygon([(x * 4, y * 4) for x, y in corners], fill=255)
    small = large.resize((size, size), Image.Resampling.BOX)
    return {(x, y) for x in range(size) for y in range(size) if small.getpixel((x, y)) > 127}


def lines(label: Path, size: int) -> list[tuple[int, list[tuple[float, float]]]]:
    """Class id and corners of each line."""
    found = []
    for line in label.read_text().splitlines():
        class_id, *values = line.split()
        numbers = [float(value) * size for value in values]
        found.append((int(class_id), list(zip(numbers[::2], numbers[1::2], strict=True))))
    return found


@pytest.mark.parametrize(("task", "size"), [("segment", 192), ("obb", 192)])
def test_outlines_and_turned_boxes_are_where_the_colour_is(tmp_path: Path, task: str, size: int) -> None:
    write_shapes(tmp_path, train=12, val=0, test=0, size=size, task=task)
    # How much of its turned box a shape fills.
    filled = {"circle": 0.785, "square": 1.0, "triangle": 0.5} if task == "obb" else {}
    for label in sorted((tmp_path / "labels/train").iterdir()):
        with Image.open(tmp_path / "images/train" / f"{label.stem}.jpg") as image:
            for class_id, corners in lines(label, size):
                xs, ys = zip(*corners, strict=True)
                drawn = coloured(image.convert("RGB"), (min(xs) - 1, min(ys) - 1, max(xs) + 1, max(ys) + 1))
                told = inside(corners, size)
                assert len(drawn - told) < 0.1 * len(told)
                wanted = filled.get(CLASS_NAMES[class_id], 1.0)
                assert len(drawn & told) / len(told) == pytest.approx(wanted, abs=0.1)


def test_keypoints_are_on_the_edge_of_their_shape(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=12, val=0, test=0, size=192, task="pose")
    data = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert data["kpt_shape"] == [len(KEYPOINT_NAMES), 3]
    assert data["kpt_names"] == {number: list(KEYPOINT_NAMES) for number in range(3)}
    for label in sorted((tmp_path / "labels/train").iterdir()):
        with Image.open(tmp_path / "images/train" / f"{label.stem}.jpg") as image:
            told = label.read_text().splitlines()
            for line in told:
                _, x, y, _, height, *points = (float(value) for value in line.split())
                assert points[2::3] == [2.0, 2.0, 2.0]
                assert points[1] == pytest.approx(y - height / 2, abs=1e-5)
                assert points[6] < x < points[3]
                for px, py in zip(points[0::3], points[1::3], strict=True):
                    towards = (px + 0.15 * (x - px), py + 0.15 * (y + 0.1 * height - py))
                    away = (px - 0.15 * (x - px), py - 0.15 * (y - py))
                    assert colourful(image, (int(towards[0] * 192), int(towards[1] * 192)))
                    outside = (int(away[0] * 192), int(away[1] * 192))
                    if len(told) == 1 and min(outside) >= 0 and max(outside) < 192:  # no other shape is near
                        assert not colourful(image, outside)


def test_pictures_are_the_same_for_boxes_outlines_and_keypoints(tmp_path: Path) -> None:
    pictures = []
    for task in ("detect", "segment", "pose"):
        write_shapes(tmp_path / task, train=2, val=0, test=0, task=task)
        pictures.append(files(tmp_path / task / "images"))
    assert pictures[0] == pictures[1] == pictures[2]
