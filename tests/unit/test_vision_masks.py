"""Masks are written as COCO's own code reads them."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runners.vision import masks
from visionmesh.v1 import result_pb2

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def coco_reads(counts: bytes) -> list[int]:
    """rleFrString of COCO's maskApi.c, line by line."""
    runs: list[int] = []
    p = 0
    while p < len(counts):
        x, k, more = 0, 0, True
        while more:
            c = counts[p] - 48
            x |= (c & 0x1F) << (5 * k)
            more = bool(c & 0x20)
            p += 1
            k += 1
            if not more and c & 0x10:
                x |= -1 << (5 * k)
        if len(runs) > 2:
            x += runs[-2]
        runs.append(x)
    return runs


def runs_of(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, zeros first."""
    flat = [bool(value) for column in mask.T for value in column]
    found = [(value, len(list(run))) for value, run in groupby(flat)]
    return ([0] if found[0][0] else []) + [length for _, length in found]


@given(MASKS)
def test_coco_reads_what_is_written(mask: np.ndarray) -> None:
    written = masks.encode(mask)
    assert (written.height, written.width) == mask.shape
    assert coco_reads(written.counts) == runs_of(mask)


@given(MASKS)
def test_what_is_written_is_read_again(mask: np.ndarray) -> None:
    assert (masks.decode(masks.encode(mask)) == mask).all()


def test_long_runs_take_several_characters() -> None:
    mask = np.zeros((1000, 700), bool)
    mask[500, 350] = True
    assert coco_reads(masks.encode(mask).counts) == [350_500, 1, 349_499]


def test_a_known_mask() -> None:
    """A square of 2 x 2 in the middle of 4 x 4: 5 zeros, 2 ones, 2 zeros, 2 ones, 5 zeros."""
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    assert masks.encode(mask).counts == b"52203"


def test_runs_that_do_not_fill_the_mask_are_refused() -> None:
    with pytest.raises(ValueError, match="tell of 16 pixels, the mask has 4 x 5"):
        masks.decode(result_pb2.Mask(height=4, width=5, counts=b"52203"))


def test_outlines_are_the_outer_edges_largest_first() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:5, 20:24] = True
    mask[5:16, 2:12] = True
    mask[8:10, 5:8] = False  # a hole has no outline of its own
    first, second = masks.outlines(mask)
    assert list(first.coordinates) == [2, 5, 2, 15, 11, 15, 11, 5]
    assert list(second.coordinates) == [20, 2, 20, 4, 23, 4, 23, 2]


def test_a_mask_of_nothing_has_no_outline() -> None:
    assert masks.outlines(np.zeros((5, 5), bool)) == []
    assert masks.encode(np.zeros((5, 5), bool)).counts == b"i0"
