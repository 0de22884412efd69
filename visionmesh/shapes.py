"""A small labelled image set: colour-coded circles, squares and triangles on textured ground.

Made for demos and tests: a stock YOLO learns it on two CPU cores in under half a minute. The
same arguments give the same pictures.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

CLASS_NAMES = ("circle", "square", "triangle")
"""Class names by class id."""

_COLOURS = ((210, 60, 50), (60, 170, 70), (60, 90, 210))
_SUPERSAMPLING = 4  # shapes are drawn this much larger, then scaled down: smooth edges
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Shape:
    """One shape in an image, by its enclosing box in pixels."""

    class_id: int
    """Index into CLASS_NAMES."""

    x_min: float
    """Left edge."""

    y_min: float
    """Upper edge."""

    side: float
    """Width and height of the box."""

    def overlaps(self, other: "Shape", gap: float) -> bool:
        """Whether the two boxes come closer than `gap` pixels."""
        apart = (
            self.x_min + self.side + gap <= other.x_min
            or other.x_min + other.side + gap <= self.x_min
            or self.y_min + self.side + gap <= other.y_min
            or other.y_min + other.side + gap <= self.y_min
        )
        return not apart

    def label(self, size: int) -> str:
        """The shape as a line of a YOLO label file: class, centre, width, height, in parts of the image."""
        half, part = self.side / 2, self.side / size
        x, y = (self.x_min + half) / size, (self.y_min + half) / size
        return f"{self.class_id} {x:.6f} {y:.6f} {part:.6f} {part:.6f}"


def write_shapes(
    folder: Path, *, train: int = 96, val: int = 32, test: int = 16, size: int = 96, seed: int = 0
) -> None:
    """Write a detection dataset in YOLO layout below `folder`.

    images/{split}/*.jpg, labels/{split}/*.txt and data.yaml, for each split with at least one
    image. `size` is the side of the square images in pixels, at least 32. Raises ValueError for
    a smaller one.
    """
    if size < 32:
        raise ValueError(f"size is {size}; shapes need images of at least 32 pixels")
    splits = {name: count for name, count in (("train", train), ("val", val), ("test", test)) if count}
    for split, count in splits.items():
        # One generator per split: more training images leave the test images as they are.
        rng = Random(f"{seed}/{split}")  # noqa: S311 - pictures, not secrets
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            shapes = _place(rng, size)
            _draw(rng, shapes, size).save(images / f"{index:05}.jpg", quality=_JPEG_QUALITY)
            lines = "".join(shape.label(size) + "\n" for shape in shapes)
            (labels / f"{index:05}.txt").write_text(lines)
    (folder / "data.yaml").write_text(_data_yaml(list(splits)))


def write_class_folders(
    folder: Path, *, train: int = 96, val: int = 32, test: int = 16, size: int = 64, seed: int = 0
) -> None:
    """Write a classification dataset below `folder`: {split}/{class}/*.jpg with one shape in each.

    The classes take turns. `size` is as in `write_shapes`.
    """
    if size < 32:
        raise ValueError(f"size is {size}; shapes need images of at least 32 pixels")
    for split, count in (("train", train), ("val", val), ("test", test)):
        rng = Random(f"{seed}/{split}")  # noqa: S311 - pictures, not secrets
        for index in range(count):
            class_id = index % len(CLASS_NAMES)
            place = folder / split / CLASS_NAMES[class_id]
            place.mkdir(parents=True, exist_ok=True)
            side = rng.uniform(0.4, 0.7) * size
            shape = Shape(class_id, rng.uniform(1, size - side - 1), rng.uniform(1, size - side - 1), side)
            _draw(rng, [shape], size).save(place / f"{index:05}.jpg", quality=_JPEG_QUALITY)


def _data_yaml(splits: list[str]) -> str:
    paths = "".join(f"{split}: images/{split}\n" for split in splits)
    names = "".join(f"  {class_id}: {name}\n" for class_id, name in enumerate(CLASS_NAMES))
    return f"path: .\n{paths}names:\n{names}"


def _place(rng: Random, size: int) -> list[Shape]:
    """One to three shapes that do not touch."""
    shapes: list[Shape] = []
    wanted = rng.randint(1, 3)
    while len(shapes) < wanted:
        side = rng.uniform(0.22, 0.38) * size
        x, y = rng.uniform(1, size - side - 1), rng.uniform(1, size - side - 1)
        shape = Shape(rng.randrange(len(CLASS_NAMES)), x, y, side)
        if not any(shape.overlaps(other, gap=2) for other in shapes):
            shapes.append(shape)
        elif rng.random() < 0.05:
            shapes.clear()  # the first ones may have left no room for the rest
    return shapes


def _draw(rng: Random, shapes: list[Shape], size: int) -> Image.Image:
    image = _ground(rng, size)
    for shape in shapes:
        mask = _mask(shape, size)
        colour = tuple(min(255, max(0, part + rng.randint(-25, 25))) for part in _COLOURS[shape.class_id])
        image.paste(colour, mask=mask)
    return image


def _ground(rng: Random, size: int) -> Image.Image:
    """Grey ground: soft blotches with grain on them."""
    blotches = Image.frombytes("L", (6, 6), rng.randbytes(36)).resize((size, size), Image.Resampling.BICUBIC)
    grain = Image.frombytes("L", (size, size), rng.randbytes(size * size))
    texture = Image.blend(blotches, grain, 0.25)
    plain = Image.new("L", (size, size), rng.randint(90, 200))
    return Image.blend(plain, texture, 0.3).convert("RGB")


def _mask(shape: Shape, size: int) -> Image.Image:
    large = Image.new("L", (size * _SUPERSAMPLING, size * _SUPERSAMPLING))
    draw = ImageDraw.Draw(large)
    left, top = shape.x_min * _SUPERSAMPLING, shape.y_min * _SUPERSAMPLING
    # Pillow counts the last pixel as part of the shape.
    right = left + shape.side * _SUPERSAMPLING - 1
    bottom = top + shape.side * _SUPERSAMPLING - 1
    if CLASS_NAMES[shape.class_id] == "circle":
        draw.ellipse((left, top, right, bottom), fill=255)
    elif CLASS_NAMES[shape.class_id] == "square":
        draw.rectangle((left, top, right, bottom), fill=255)
    else:
        draw.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=255)
    return large.resize((size, size), Image.Resampling.BOX)


def main() -> None:
    """`python -m visionmesh.shapes FOLDER`: write the data set for a person to try things with."""
    parser = argparse.ArgumentParser(prog="python -m visionmesh.shapes", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write; made if it is not there")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images (default 0)")
    parser.add_argument("--classes", action="store_true", help="one shape an image, in class folders")
    options = parser.parse_args()
    write = write_class_folders if options.classes else write_shapes
    write(options.folder, seed=options.seed)
    kind = "dataset of class folders" if options.classes else "YOLO dataset"
    print(f"A {kind} with circles, squares and triangles is in {options.folder}.")


if __name__ == "__main__":
    main()
