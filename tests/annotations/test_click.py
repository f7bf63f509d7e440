"""From one click to a region."""

import numpy as np
import pytest
from scipy import ndimage

from sigmoid_vit.annotations.click import cell_distances, size_for


@pytest.fixture
def picture():
    """Noise of little contrast with a bright ring of 3 x 3 cells around a dark one, on 6 x 6 cells."""
    h, w = size_for((6, 6))
    pixels = np.random.RandomState(0).randint(0, 20, (h, w, 3)).astype(np.uint8)
    pixels[8:32, 16:40] = 240
    pixels[16:24, 24:32] = 10
    return pixels


def test_a_region_follows_the_colour_that_was_clicked(picture):
    ring = np.zeros((6, 6), bool)
    ring[1:4, 2:5] = True
    ring[2, 3] = False
    distances = cell_distances(picture, (2.5 / 6, 1.5 / 6), (6, 6))
    away = ~ndimage.binary_dilation(ring, np.ones((3, 3)))
    assert distances[ring].max() < distances[away].min() / 3  # also behind the dark cell
    assert distances.min() == 0


def test_within_any_distance_the_cells_are_connected(picture):
    corners = np.ones((3, 3))
    for point in ((0.1, 0.9), (0.5, 0.4), (0.99999, 0)):
        distances = cell_distances(picture, point, (6, 6))
        clicked = int(point[1] * 6), int(point[0] * 6)
        assert distances[clicked] == 0
        for end in np.unique(distances):
            assert ndimage.label(distances <= end, corners)[1] == 1


def test_brightness_and_contrast_of_the_whole_image_do_not_matter(picture):
    point = (0.4, 0.2)
    expected = cell_distances(picture, point, (6, 6))
    dimmer = cell_distances(picture / 4 + 100, point, (6, 6))
    np.testing.assert_allclose(dimmer, expected, rtol=1e-9)
    flat = cell_distances(np.full_like(picture, 7), point, (6, 6))
    assert np.isfinite(flat).all() and flat[5, 5] > flat[1, 3] > 0  # as far as it is


@pytest.mark.parametrize("grid", [(1, 1), (14, 14), (7, 20), (64, 64), (100, 3)])
def test_any_grid_takes_an_image_of_some_thousand_pixels(grid):
    h, w = size_for(grid)
    assert h % grid[0] == 0 and w % grid[1] == 0
    assert h * w <= 128**2
    assert cell_distances(np.zeros((h, w, 3), np.uint8), (0.5, 0.5), grid).shape == grid
