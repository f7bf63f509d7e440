"""The outline of a mask holds the mask, and no more."""

import numpy as np
import pytest

from sigmoid_vit.annotations.outline import outline


def inside(lines, shape):
    """The pixels to whose left an odd number of lines stand, bool [h, w]; likewise from above."""
    h, w = shape
    x0, y0, x1, y1 = lines.astype(float).T * [[w], [h], [w], [h]]
    x, y = np.arange(w) + 0.5, np.arange(h) + 0.5
    upright = (x0 == x1)[:, None, None]
    left = upright & (x0[:, None, None] < x[None, None]) & (y0[:, None, None] < y[:, None])
    left &= y[:, None] < y1[:, None, None]
    above = ~upright & (y0[:, None, None] < y[:, None]) & (x0[:, None, None] < x) & (x < x1[:, None, None])
    return left.sum(0) % 2 == 1, above.sum(0) % 2 == 1


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1])
def test_the_lines_hold_what_is_marked(share):
    marked = np.random.RandomState(0).rand(13, 16) < share
    lines = outline(marked)
    assert lines.dtype == np.float32
    for found in inside(lines, marked.shape):
        assert np.array_equal(found, marked)


def test_straight_borders_are_one_line():
    marked = np.zeros((40, 20), bool)
    marked[10:30, 5:15] = True
    square = {(0.25, 0.25, 0.75, 0.25), (0.25, 0.75, 0.75, 0.75), (0.25, 0.25, 0.25, 0.75)}
    assert set(map(tuple, outline(marked).tolist())) == square | {(0.75, 0.25, 0.75, 0.75)}


def test_a_large_mask_has_fewer_lines_in_the_same_place():
    marked = np.random.RandomState(0).rand(300, 101) < 0.5
    marked[:, 50:] = True
    lines = outline(marked, longer_side=75)
    assert len(lines) < 75 * 26 * 2 + 200
    assert lines.min() >= 0
    assert lines.max() <= 1
    x0, _, x1, _ = lines.T
    assert ((x0 == 1) & (x1 == 1)).any()  # at the edge of the image, although 101 is no multiple of 4
