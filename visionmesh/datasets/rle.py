"""Masks in runs, as COCO has them, to outlines.

A mask is told column by column, from the upper left corner: so many pixels outside of the object, so many
inside, and so on. The short form is text: five bits of a number in each character from "0" on, a sixth
bit if more follow, and from the third number on only the difference to the last but one.

The format: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

Point = tuple[int, int]


def outlines(counts: Any, width: int, height: int) -> tuple[tuple[Point, ...], ...]:
    """The edges of a mask of `width` x `height` pixels: points (x, y) on pixels' corners.

    Parts go round one way, holes in them the other. Raises ValueError for what is no such mask, and for one
    that is empty.
    """
    runs = _runs(counts)
    if sum(runs) != width * height:
        raise ValueError(f"its runs make {sum(runs)} pixels, and the image has {width * height}")
    columns: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    ends = [0, *accumulate(runs)]
    for start, end in list(pairwise(ends))[1::2]:
        _add_run(columns, start, end, height)
    found = _rings(_edges(columns))
    if not found:
        raise ValueError("no pixel is inside")
    return found


def _runs(counts: Any) -> list[int]:
    if isinstance(counts, str):
        return unpacked(counts)
    if isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts):
        return counts
    raise ValueError("`counts` must be a list of whole numbers, or text in COCO's short form")


def unpacked(text: str) -> list[int]:
    """Lengths of runs from their short form. Raises ValueError for what is none."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            raise ValueError(f"{character!r} does not belong into `counts`")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last of this number; its highest bit is its sign
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or any(run < 0 for run in runs):
        raise ValueError("`counts` is cut short or damaged")
    return runs


def _add_run(columns: dict[int, list[tuple[int, int]]], start: int, end: int, height: int) -> None:
    """A run as stretches of columns: first row, and the row after the last."""
    while start < end:
        column, row = divmod(start, height)
        length = min(end - start, height - row)
        before = columns[column]
        if before and before[-1][1] == row:  # an empty run lay between
            before[-1] = (before[-1][0], row + length)
        else:
            before.append((row, row + length))
        start += length


def _edges(columns: dict[int, list[tuple[int, int]]]) -> dict[Point, list[Point]]:
    """Where the edge goes from each corner, with the object to its right hand as y grows downwards."""
    leads: defaultdict[Point, list[Point]] = defaultdict(list)
    for x, stretches in columns.items():
        for top, bottom in stretches:
            leads[x, top].append((x + 1, top))
            leads[x + 1, bottom].append((x, bottom))
    for x in {side for column in columns for side in (column, column + 1)}:
        left, right = columns.get(x - 1, []), columns.get(x, [])
        for top, bottom in _outside(left, right):
            leads[x, top].append((x, bottom))
        for top, bottom in _outside(right, left):
            leads[x, bottom].append((x, top))
    return leads


def _outside(
    stretches: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The parts of `stretches` that no other covers; both in order."""
    parts, at = [], 0
    for top, bottom in stretches:
        while at < len(others) and others[at][0] < bottom:
            begin, end = others[at]
            if begin > top:
                parts.append((top, begin))
            top = max(top, end)
            if end > bottom:
                break  # it covers some of the next one too
            at += 1
        if top < bottom:
            parts.append((top, bottom))
    return parts


def _rings(leads: dict[Point, list[Point]]) -> tuple[tuple[Point, ...], ...]:
    rings = []
    for start in sorted(leads):
        while leads[start]:
            ring, at = [start], leads[start].pop()
            while at != start:
                ring.append(at)
                at = leads[at].pop()
            rings.append(_corners(ring))
    return tuple(rings)


def _corners(ring: list[Point]) -> tuple[Point, ...]:
    """Without the points on straight stretches."""
    around = zip([ring[-1], *ring[:-1]], ring, [*ring[1:], ring[0]], strict=True)
    return tuple(
        point for before, point, after in around if (before[0] == point[0]) != (point[0] == after[0])
    )
