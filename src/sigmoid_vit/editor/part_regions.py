"""The region around a clicked point of an image, as the editor's click to segment shows it."""

import threading
from collections.abc import Callable

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sigmoid_vit.annotations.click import SUGGESTED, cell_distances, size_for


class PartRegions:
    """How far the cells of a part's images lie from a point; safe to call from any thread.

    Args:
        read: image number -> uint8 [3, h, w]; its errors reach the caller.
        grid: the model's (gh, gw).
    """

    def __init__(self, read: Callable[[int], Tensor], grid: tuple[int, int]) -> None:
        self.read, self.grid = read, grid
        self._last: tuple[int, np.ndarray] | None = (
            None  # number and pixels of the image that was clicked last
        )
        self._lock = threading.Lock()

    def distances(self, i: int, point: tuple[float, float]) -> np.ndarray:
        """The `cell_distances` of image i, float64 [gh, gw], with 1 where the suggested region ends.

        Args:
            point: (x, y) as shares of width and height, 0 up to 1.
        """
        with self._lock:
            if self._last is None or self._last[0] != i:
                self._last = i, network_pixels(self.read(i), self.grid)
            return cell_distances(self._last[1], point, self.grid) / SUGGESTED


def network_pixels(image: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """An image uint8 [3, h, w] as `cell_distances` takes it: uint8 [h, w, 3] in the size for the grid."""
    return F.resize(image, list(size_for(grid)), antialias=True).permute(1, 2, 0).numpy()
