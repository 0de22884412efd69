"""Masks in runs: their outlines enclose exactly the pixels that are inside."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionmesh.datasets import rle
from visionmesh.datasets._objects import joined

Outline = tuple[tuple[float, float], ...]


def runs_of(columns: list[list[bool]]) -> list[int]:
    runs, inside = [0], False
    for pixel in (pixel for column in columns for pixel in column):
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    return runs


def encloses(outline: Outline, x: float, y: float) -> bool:
    """By counting the edges to the right, as fills with the even-odd rule do."""
    around = zip(outline, (*outline[1:], outline[0]), strict=True)
    crossed = [
        a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) for a, b in around if (a[1] > y) != (b[1] > y)
    ]
    return sum(at > x for at in crossed) % 2 == 1


@given(
    st.integers(1, 9).flatmap(
        lambda height: st.lists(
            st.lists(st.booleans(), min_size=height, max_size=height), min_size=1, max_size=9
        )
    )
)
@settings(max_examples=150, deadline=None)
def test_outlines_enclose_what_is_inside(columns: list[list[bool]]) -> None:
    width, height = len(columns), len(columns[0])
    if not any(any(column) for column in columns):
        with pytest.raises(ValueError, match="no pixel is inside"):
            rle.outlines(runs_of(columns), width, height)
        return
    outline = joined(rle.outlines(runs_of(columns), width, height))
    found = [[encloses(outline, x + 0.5, y + 0.5) for y in range(height)] for x in range(width)]
    assert found == columns


def test_the_short_form_is_that_of_coco() -> None:
    # A square of 3 pixels at (2, 1) in an image of 8 x 6: runs 13 3 3 3 3 3 20.
    assert rle._runs("=33000a0") == [13, 3, 3, 3, 3, 3, 20]
    assert rle.outlines("=33000a0", 8, 6) == (((2, 1), (5, 1), (5, 4), (2, 4)),)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (None, "must be a list of whole numbers"),
        ([1, -1, 48], "must be a list of whole numbers"),
        ([1.0, 47], "must be a list of whole numbers"),
        ([1, 3], "its runs make 4 pixels, and the image has 48"),
        ("=33 ", "' ' does not belong"),
        ("oooooooooooooooooooo", "does not belong"),
        ("=3o", "cut short or damaged"),
    ],
)
def test_what_is_no_mask_is_refused(counts: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rle.outlines(counts, 8, 6)
