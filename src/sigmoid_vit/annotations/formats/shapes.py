"""From the shapes that people draw to pixels: polygons, boxes, ellipses and run lengths.

Coordinates are pixels from the upper left corner of the image: 0 is the left edge of the first pixel. A pixel
is marked when its centre lies inside.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from sigmoid_vit.data.images import MAX_PIXELS

Size = tuple[int, int]  # height and width of the image in pixels
Draw = Callable[[Size], np.ndarray]  # bool [h, w]; ValueError for a shape that cannot be on such an image


def polygons(rings: Sequence[np.ndarray]) -> Draw:
    """All that lies in any of the polygons, each float [n, 2] of x and y with n of 3 or more."""
    rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]

    def draw(size: Size) -> np.ndarray:
        for ring in rings:
            _check_on_image(ring, size)
        coded = coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], *size)
        return coco_mask.decode(coded).any(axis=2)

    return draw


def box(
    left: float, top: float, right: float, bottom: float, degrees: float = 0, corner: bool = False
) -> Draw:
    """A rectangle, turned clockwise about its centre or its upper left `corner`."""
    x, y = np.array([left, right, right, left]), np.array([top, top, bottom, bottom])
    if degrees:
        about = (left, top) if corner else ((left + right) / 2, (top + bottom) / 2)
        return polygons([turned(np.stack([x, y], 1), degrees, about)])

    def draw(size: Size) -> np.ndarray:
        _check_on_image(np.stack([x, y], 1), size)
        rows, columns = (np.arange(n) + 0.5 for n in size)
        (x0, x1), (y0, y1) = sorted((left, right)), sorted((top, bottom))
        return np.outer((y0 <= rows) & (rows <= y1), (x0 <= columns) & (columns <= x1))

    return draw


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> Draw:
    """An ellipse about (x, y), turned clockwise."""

    def draw(size: Size) -> np.ndarray:
        reach = np.array([[x - radius_x, y - radius_y], [x + radius_x, y + radius_y]])
        _check_on_image(reach, size)
        at = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in size[::-1])), -1)
        across, down = np.moveaxis(turned(at, -degrees, (x, y)) - (x, y), -1, 0)
        return (across / radius_x) ** 2 + (down / radius_y) ** 2 <= 1

    return draw


def run_lengths(counts: Sequence[int], size: Size, order: str, at: tuple[int, int] = (0, 0)) -> Draw:
    """A mask of `size` as lengths of runs, unmarked first, with its upper left pixel at row and column `at`.

    Args:
        order: "C", the runs go along the rows; "F", down the columns.
    """

    def draw(image: Size) -> np.ndarray:
        runs = np.asarray(counts, np.int64)
        if runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
            raise ValueError(f"the run lengths add up to {runs.sum()}, not to {size[1]} x {size[0]}")
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order=order)
        return placed(pixels, at)(image)

    return draw


def placed(pixels: np.ndarray, at: tuple[int, int] = (0, 0)) -> Draw:
    """A mask [h, w] with its upper left pixel at row and column `at` of the image."""

    def draw(size: Size) -> np.ndarray:
        (top, left), (h, w) = at, pixels.shape
        if min(at) < 0 or top + h > size[0] or left + w > size[1]:
            raise ValueError(
                f"a mask of {w} x {h} at ({left}, {top}) does not fit into {size[1]} x {size[0]}"
            )
        whole = np.zeros(size, bool)
        whole[top : top + h, left : left + w] = pixels
        return whole

    return draw


def turned(points: np.ndarray, degrees: float, about: tuple[float, float]) -> np.ndarray:
    """Points [..., 2] turned clockwise, as y points down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (points - about) @ np.array([[cos, sin], [-sin, cos]]) + about


def image_size(height: object, width: object) -> Size:
    """The size that a file states, as numbers; `ValueError` for one that no image has."""
    size = int(height), int(width)
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"no image is {width} x {height}")
    return size


def _check_on_image(points: np.ndarray, size: Size) -> None:
    """Refuse a shape that leaves the image by more than the image's own size: it belongs to another one."""
    limits = np.array(size[::-1])
    if not (np.isfinite(points).all() and (points >= -limits).all() and (points <= 2 * limits).all()):
        x, y = points[np.abs(np.nan_to_num(points, nan=np.inf) / limits - 0.5).max(1).argmax()]
        raise ValueError(f"a corner at ({x:g}, {y:g}) is far outside an image of {size[1]} x {size[0]}")
