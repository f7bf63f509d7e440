"""A map over the image becomes exactly the cells it covers, whatever the sizes."""

import numpy as np
import pytest
from helpers.marked_images import block
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmoid_vit.annotations.cells import cell_edit, cell_means, cells_inside


@settings(max_examples=60, deadline=None)
@given(
    gh=st.integers(1, 9),
    gw=st.integers(1, 9),
    scale=st.integers(1, 7),
    stretch=st.integers(1, 3),
    data=st.data(),
)
def test_a_known_square_gives_exactly_its_cells(gh, gw, scale, stretch, data):
    top, left = data.draw(st.integers(0, gh - 1)), data.draw(st.integers(0, gw - 1))
    bottom, right = data.draw(st.integers(top + 1, gh)), data.draw(st.integers(left + 1, gw))
    sh, sw = scale, scale * stretch  # any size, any proportions: the grid spans the whole map
    mask = block(top * sh, bottom * sh, left * sw, right * sw, (gh * sh, gw * sw), 1, np.float32)
    expected = block(top, bottom, left, right, (gh, gw), True, bool)
    for covered in (0, 0.5, 1):
        assert np.array_equal(cells_inside(mask, (gh, gw), covered), expected)


@settings(max_examples=60, deadline=None)
@given(h=st.integers(1, 40), w=st.integers(1, 40), gh=st.integers(1, 20), gw=st.integers(1, 20))
def test_cell_means_keep_the_mean_whatever_the_sizes(h, w, gh, gw):
    pixels = np.random.default_rng([h, w]).random((h, w))
    cells = cell_means(pixels, (gh, gw))
    assert cells.mean() == pytest.approx(pixels.mean())
    fine = np.kron(pixels, np.ones((gh, gw)))  # every pixel cut into gh x gw
    assert np.allclose(cells, fine.reshape(gh, h, gw, w).mean((1, 3)))


def test_the_covered_share_decides_at_the_border():
    mask = block(0, 8, 0, 5, (8, 8), 1, np.float32)  # the right half of the cells is covered to a quarter
    assert cells_inside(mask, (2, 2), 0.25).all()
    assert cells_inside(mask, (2, 2), 0).all()
    assert cells_inside(mask, (2, 2), 0.26).tolist() == [[True, False]] * 2


def test_what_a_mask_means():
    inside = np.array([[1.0, 0.0], [0.0, 0.0]])
    value, edited = cell_edit(inside, "background", 0.9)
    assert (value == 0).all()
    assert edited.tolist() == [[False, True], [True, True]]
    value, edited = cell_edit(inside, "object", 0.9)
    assert value[0, 0] == np.float32(0.9)
    assert edited.tolist() == [[True, False], [False, False]]
    value, edited = cell_edit(inside, "both", 0.8)
    assert value.tolist() == [[np.float32(0.8), 0], [0, 0]]
    assert edited.all()
    value, edited = cell_edit(inside * 0.3, "soft", 0.9)
    assert value[0, 0] == np.float32(0.3)
    assert edited.all()
    assert value.dtype == np.float32
