"""The border of a mask, as lines that can be drawn at any size."""

import numpy as np


def outline(marked: np.ndarray, longer_side: int = 2048) -> np.ndarray:
    """The borders between marked pixels and others, or the edge of the image.

    Args:
        marked: bool [h, w].
        longer_side: in pixels; of larger masks, every second, third, ... pixel counts.

    Returns:
        float32 [n, 4], a straight line each: from (x, y) to (x, y), as shares of the width and the height.
    """
    step = -(-max(marked.shape) // longer_side)
    h, w = marked.shape
    marked = marked[::step, ::step]
    lines = np.concatenate([_horizontal(marked), _horizontal(marked.T)[:, [1, 0, 3, 2]]])
    return np.minimum(1, lines * step / (w, h, w, h)).astype(np.float32)


def _horizontal(marked: np.ndarray) -> np.ndarray:
    """Those that run from left to right, as long as they are: int [n, 4], in pixels."""
    border = np.diff(np.pad(marked, ((1, 1), (0, 0))).astype(np.int8), axis=0) != 0  # [h + 1, w]
    ends = np.diff(np.pad(border, ((0, 0), (1, 1))).astype(np.int8), axis=1)  # 1 at a start, -1 at an end
    (y, left), (_, right) = np.nonzero(ends == 1), np.nonzero(ends == -1)
    return np.stack([left, y, right, y], axis=1)
