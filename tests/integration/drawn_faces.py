"""Draws people: each has a face of their own, and every picture of it is another one.

Made so that OpenCV's cascade takes them for faces, and that only their proportions and colours tell
two people apart.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter

SIDE = 160
_LARGE = 2  # drawn this much larger, then scaled down: smooth edges
_EYES = 0.45  # their height in a face, from above
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Person:
    """What a face looks like, in parts of its width."""

    skin: Colour
    hair: Colour
    eyes: Colour
    lips: Colour
    length: float
    eye_distance: float
    eye_size: float
    brow: float
    nose: float
    mouth: float
    hairline: float

    @classmethod
    def random(cls, rng: Random) -> "Person":
        light = rng.uniform(0.62, 1.0)
        return cls(
            skin=(int(245 * light), int(200 * light * rng.uniform(0.9, 1.08)), int(170 * light)),
            hair=rng.choice([(40, 30, 25), (110, 70, 35), (190, 150, 80), (150, 60, 30), (130, 130, 130)]),
            eyes=rng.choice([(60, 40, 30), (40, 80, 130), (50, 100, 60)]),
            lips=rng.choice([(170, 70, 70), (200, 90, 100), (130, 60, 60)]),
            length=rng.uniform(1.2, 1.42),
            eye_distance=rng.uniform(0.36, 0.48),
            eye_size=rng.uniform(0.085, 0.125),
            brow=rng.uniform(0.03, 0.075),
            nose=rng.uniform(0.2, 0.32),
            mouth=rng.uniform(0.26, 0.46),
            hairline=rng.uniform(0.12, 0.3),
        )


def people(count: int, seed: int = 0) -> list[Person]:
    rng = Random(seed)  # noqa: S311 - pictures, not secrets
    return [Person.random(rng) for _ in range(count)]


def picture(person: Person, rng: Random) -> Image.Image:
    """One picture of a person: place, size, tilt and light are the picture's own."""
    face = _face(person).rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC)
    width = round(rng.uniform(0.62, 0.75) * SIDE)
    face = face.resize((width, round(width * face.height / face.width)), Image.Resampling.LANCZOS)
    blotches = Image.frombytes("RGB", (8, 8), rng.randbytes(192))
    ground = Image.new("RGB", (SIDE, SIDE), (120, 125, 130))
    shown = Image.blend(ground, blotches.resize((SIDE, SIDE), Image.Resampling.BICUBIC), 0.4)
    x, y = ((SIDE - face.width) // 2 + rng.randint(-12, 12), (SIDE - face.height) // 2 + rng.randint(-6, 6))
    shown.paste(face, (x, y), face)
    light = rng.uniform(0.8, 1.15)
    return shown.point(lambda value: min(255, int(value * light))).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8))
    )


def _face(person: Person) -> Image.Image:
    """The head alone on nothing; its width is that of the picture."""
    width = 100 * _LARGE
    height = int(width * person.length)
    image = Image.new("RGBA", (width, height))
    pen = ImageDraw.Draw(image)
    pen.ellipse((0, 0, width - 1, height - 1), fill=person.hair)
    pen.ellipse((width * 0.07, height * person.hairline * 0.6, width * 0.93, height * 0.99), fill=person.skin)
    shade: Colour = tuple(int(value * 0.6) for value in person.skin)  # type: ignore[assignment]
    for side in (-1, 1):
        _draw_eye(pen, person, width * (0.5 + side * person.eye_distance / 2), height * _EYES, shade)
    nose_y = height * _EYES + width * person.nose
    _draw_ellipse(pen, width * 0.5, nose_y, width * 0.09, width * 0.045, shade)
    _draw_ellipse(
        pen, width * 0.5, nose_y + width * 0.22, width * person.mouth / 2, width * 0.055, person.lips
    )
    return image


def _draw_eye(pen: ImageDraw.ImageDraw, person: Person, x: float, y: float, shade: Colour) -> None:
    size = 100 * _LARGE * person.eye_size
    _draw_ellipse(pen, x, y, 1.7 * size, 1.15 * size, shade)
    _draw_ellipse(pen, x, y, 1.2 * size, 0.6 * size, (204, 204, 204))
    _draw_ellipse(pen, x, y, 0.6 * size, 0.6 * size, person.eyes)
    brow, half = y - 1.7 * size, 50 * _LARGE * person.brow
    pen.rectangle((x - 1.6 * size, brow - half, x + 1.6 * size, brow + half), fill=person.hair)


def _draw_ellipse(
    pen: ImageDraw.ImageDraw, x: float, y: float, half_width: float, half_height: float, colour: Colour
) -> None:
    pen.ellipse((x - half_width, y - half_height, x + half_width, y + half_height), fill=colour)


def write_pictures(folder: Path, everybody: list[Person], each: int, seed: int) -> None:
    """{folder}/{number of the person}/{number}.jpg."""
    rng = Random(seed)  # noqa: S311 - pictures, not secrets
    for number, person in enumerate(everybody):
        place = folder / f"person{number:02}"
        place.mkdir(parents=True, exist_ok=True)
        for index in range(each):
            picture(person, rng).save(place / f"{index:02}.jpg", quality=92)
