"""From one click to a region: how far each cell of an image lies from the clicked point.

The distance is that of the cheapest path through the pixels, on which it costs little to pass pixels of the
clicked one's colour and much to pass others (the geodesic distance of Criminisi et al., 2008). The cells
within any distance are connected, and hold the clicked one.
"""

from functools import cache

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

SIDE = 112  # pixels of the image's longer side, at most, but for grids of more than half as many cells
MOST_PER_CELL = 8  # pixels of a cell's side
BLUR = 1.0  # standard deviation in these pixels
STEP = 0.1  # what a step of one pixel costs beside the difference of its colour, in standard deviations
SUGGESTED = 3.0  # the distance up to which a region is suggested first, in hundredths of the image


def size_for(grid: tuple[int, int]) -> tuple[int, int]:
    """The size (h, w) in pixels that `cell_distances` wants of an image for this grid (gh, gw)."""
    per_cell = min(MOST_PER_CELL, max(2, SIDE // max(grid)))
    return grid[0] * per_cell, grid[1] * per_cell


def cell_distances(pixels: np.ndarray, point: tuple[float, float], grid: tuple[int, int]) -> np.ndarray:
    """The distance from a point to the nearest pixel of each cell, float64 [gh, gw], at least 0.

    Args:
        pixels: [h, w, channels], the whole image in `size_for(grid)`.
        point: (x, y) as shares of the image's width and height, 0 up to 1.
    """
    h, w = pixels.shape[:2]
    colours = pixels.astype(np.float64) / max(pixels.std(), 1e-6)
    colours = ndimage.gaussian_filter(colours, (BLUR, BLUR, 0))
    x, y = int(point[0] * w), int(point[1] * h)
    difference = np.sqrt(np.square(colours - colours[y, x]).mean(2)).ravel()
    a, b, length = _neighbours(h, w)
    cost = length * (STEP + (difference[a] + difference[b]) / 2)
    graph = csr_array((cost, (a, b)), shape=(h * w, h * w))
    distances = dijkstra(graph, directed=False, indices=y * w + x) / (max(h, w) / 100)
    gh, gw = grid
    return distances.reshape(gh, h // gh, gw, w // gw).min((1, 3))


@cache
def _neighbours(h: int, w: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair of neighbouring pixels, corners included: their numbers and their distance."""
    number = np.arange(h * w).reshape(h, w)
    right, down = (number[:, :-1], number[:, 1:]), (number[:-1], number[1:])
    diagonals = (number[:-1, :-1], number[1:, 1:]), (number[:-1, 1:], number[1:, :-1])
    pairs = [right, down, *diagonals]
    a, b = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    lengths = [1, 1, np.sqrt(2), np.sqrt(2)]
    return a, b, np.concatenate([np.full(pair[0].size, s) for pair, s in zip(pairs, lengths, strict=True)])
