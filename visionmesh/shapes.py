"""A small labelled image set: colour-coded circles, squares and triangles on textured ground.

Made for demos and tests, with labels for every task: a stock YOLO learns it on two CPU cores in under
half a minute. The same arguments give the same pictures.
"""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

CLASS_NAMES = ("circle", "square", "triangle")
"""Class names by class id."""

KEYPOINT_NAMES = ("top", "right", "left")
"""Of each shape: the middle of its upper edge, and its lower corners (of a circle, the nearest to them)."""

TASKS = ("detect", "segment", "classify", "pose", "obb")
"""What labels can be made for; shapes for obb are stretched and turned, for classify one fills an image."""

_COLOURS = ((210, 60, 50), (60, 170, 70), (60, 90, 210))
_SUPERSAMPLING = 4  # shapes are drawn this much larger, then scaled down: smooth edges
_JPEG_QUALITY = 92
_CIRCLE_CORNERS = 24  # of its outline
_FLATTEST = 0.35  # height of a stretched shape as a part of its width

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One shape in an image, by the box around it in pixels."""

    class_id: int
    """Index into CLASS_NAMES."""

    x: float
    """Centre of the box, horizontally."""

    y: float
    """Centre of the box, vertically."""

    width: float
    """First side of the box."""

    height: float
    """Second side of the box."""

    angle: float = 0.0
    """Clockwise rotation of the first side from the horizontal, in radians."""

    def overlaps(self, other: "Shape", gap: float) -> bool:
        """Whether the two boxes, not turned, come closer than `gap` pixels."""
        apart_x = abs(self.x - other.x) >= (self.width + other.width) / 2 + gap
        apart_y = abs(self.y - other.y) >= (self.height + other.height) / 2 + gap
        return not (apart_x or apart_y)

    def corners(self) -> list[Point]:
        """Of the box, clockwise from the upper left."""
        return self._turned([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])

    def outline(self) -> list[Point]:
        """Corners of the shape; many for a circle."""
        name = CLASS_NAMES[self.class_id]
        if name == "square":
            return self.corners()
        if name == "triangle":
            return self._turned([(0, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        around = [2 * math.pi * step / _CIRCLE_CORNERS for step in range(_CIRCLE_CORNERS)]
        return self._turned([(math.cos(turn) / 2, math.sin(turn) / 2) for turn in around])

    def keypoints(self) -> list[Point]:
        """In the order of KEYPOINT_NAMES."""
        out = math.sqrt(0.125) if CLASS_NAMES[self.class_id] == "circle" else 0.5
        return self._turned([(0, -0.5), (out, out), (-out, out)])

    def label(self, size: int, task: str = "detect") -> str:
        """The shape as a line of a YOLO label file for `task`, in parts of the image's side."""
        if task == "segment":
            return self._line(size, [part for point in self.outline() for part in point])
        if task == "obb":
            return self._line(size, [part for point in self.corners() for part in point])
        box = self._line(size, [self.x, self.y, self.width, self.height])
        if task == "detect":
            return box
        return " ".join([box, *(f"{x / size:.6f} {y / size:.6f} 2" for x, y in self.keypoints())])

    def _line(self, size: int, values: list[float]) -> str:
        return " ".join([str(self.class_id), *(f"{value / size:.6f}" for value in values)])

    def _turned(self, points: list[Point]) -> list[Point]:
        """Points given as parts of the box from its centre, in the image."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        scaled = [(x * self.width, y * self.height) for x, y in points]
        return [(self.x + x * cos - y * sin, self.y + x * sin + y * cos) for x, y in scaled]


def write_shapes(
    folder: Path,
    *,
    train: int = 96,
    val: int = 32,
    test: int = 16,
    size: int = 96,
    seed: int = 0,
    task: str = "detect",
) -> None:
    """Write a dataset for detect, segment, pose or obb in YOLO layout below `folder`.

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
            if task == "obb":
                shapes = [_stretched(rng, shape) for shape in shapes]
            _draw(rng, shapes, size).save(images / f"{index:05}.jpg", quality=_JPEG_QUALITY)
            lines = "".join(shape.label(size, task) + "\n" for shape in shapes)
            (labels / f"{index:05}.txt").write_text(lines)
    (folder / "data.yaml").write_text(_data_yaml(list(splits), task))


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
            shape = _square(class_id, rng.uniform(1, size - side - 1), rng.uniform(1, size - side - 1), side)
            _draw(rng, [shape], size).save(place / f"{index:05}.jpg", quality=_JPEG_QUALITY)


def _data_yaml(splits: list[str], task: str) -> str:
    paths = "".join(f"{split}: images/{split}\n" for split in splits)
    names = "".join(f"  {class_id}: {name}\n" for class_id, name in enumerate(CLASS_NAMES))
    return f"path: .\n{paths}{_POSE_YAML if task == 'pose' else ''}names:\n{names}"


# Three numbers for each keypoint; left and right change places in a mirror.
_POSE_YAML = f"""kpt_shape: [{len(KEYPOINT_NAMES)}, 3]
flip_idx: [0, 2, 1]
kpt_names:
""" + "".join(f"  {class_id}: [{', '.join(KEYPOINT_NAMES)}]\n" for class_id in range(len(CLASS_NAMES)))


def _square(class_id: int, x_min: float, y_min: float, side: float) -> Shape:
    return Shape(class_id, x_min + side / 2, y_min + side / 2, side, side)


def _stretched(rng: Random, shape: Shape) -> Shape:
    """The shape flattened and turned, so that the box around it has the longest side that it had."""
    part, angle = rng.uniform(_FLATTEST, 0.6), rng.uniform(0, math.pi)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    width = shape.width / max(cos + part * sin, sin + part * cos)
    return replace(shape, width=width, height=part * width, angle=angle)


def _place(rng: Random, size: int) -> list[Shape]:
    """One to three shapes that do not touch."""
    shapes: list[Shape] = []
    wanted = rng.randint(1, 3)
    while len(shapes) < wanted:
        side = rng.uniform(0.22, 0.38) * size
        x, y = rng.uniform(1, size - side - 1), rng.uniform(1, size - side - 1)
        shape = _square(rng.randrange(len(CLASS_NAMES)), x, y, side)
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
    left, top = (shape.x - shape.width / 2) * _SUPERSAMPLING, (shape.y - shape.height / 2) * _SUPERSAMPLING
    # Pillow counts the last pixel as part of the shape.
    right = left + shape.width * _SUPERSAMPLING - 1
    bottom = top + shape.height * _SUPERSAMPLING - 1
    if CLASS_NAMES[shape.class_id] == "circle":
        draw.ellipse((left, top, right, bottom), fill=255)
    elif CLASS_NAMES[shape.class_id] == "square":
        draw.rectangle((left, top, right, bottom), fill=255)
    else:
        draw.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=255)
    if shape.angle:  # Pillow turns the other way round
        centre = (shape.x * _SUPERSAMPLING, shape.y * _SUPERSAMPLING)
        large = large.rotate(-math.degrees(shape.angle), center=centre)
    return large.resize((size, size), Image.Resampling.BOX)


def main() -> None:
    """`python -m visionmesh.shapes FOLDER`: write the data set for a person to try things with."""
    parser = argparse.ArgumentParser(prog="python -m visionmesh.shapes", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write; made if it is not there")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images (default 0)")
    parser.add_argument(
        "--task", choices=TASKS, default="detect", help="what it is labelled for (default detect)"
    )
    parser.add_argument(
        "--classes", dest="task", action="store_const", const="classify", help="the same as --task classify"
    )
    options = parser.parse_args()
    if options.task == "classify":
        write_class_folders(options.folder, seed=options.seed)
        kind = "dataset of class folders"
    else:
        size = 128 if options.task == "obb" else 96  # turned shapes are thinner
        write_shapes(options.folder, seed=options.seed, task=options.task, size=size)
        kind = "YOLO dataset" if options.task == "detect" else f"YOLO dataset for {options.task}"
    print(f"A {kind} with circles, squares and triangles is in {options.folder}.")


if __name__ == "__main__":
    main()
