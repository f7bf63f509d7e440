"""Gaze: fixation files in CUB-GHA's format, and the map of where people looked.

Rong, Xu, Akata, Kasneci (2021), "Human Attention in Fine-grained Classification".
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sigmoid_vit.data.images import MAX_PIXELS
from sigmoid_vit.errors import UserError

SIGMA = 0.05  # of the image's longer side: 25 pixels of 500


def read_fixations(files: Iterable[str | Path]) -> dict[str, np.ndarray]:
    """The fixations of every image, from files in CUB-GHA's format.

    A line is a trial: `image_id, width, height`, then `x, y, milliseconds` for each fixation, in pixels of
    the original image. Trials of an image add up, over lines and files, in whatever order.

    Returns:
        image_id -> float64 [n, 5]: width, height, x, y, milliseconds; the rows are sorted.

    Raises:
        UserError: a file that cannot be read, or a line that is not a trial, with its number.
    """
    fixations = defaultdict(list)
    for path in map(Path, files):
        try:
            lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a readable file of fixations ({error})") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                image_id, rows = _trial(line, f"{path}, line {number}")
                fixations[image_id] += rows
    return {image_id: np.array(sorted(rows)) for image_id, rows in fixations.items()}


def gaze_map(fixations: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """Where people looked: a Gaussian around each fixation, weighted by its duration, float32 [h, w] in 0..1.

    Args:
        fixations: [n, 5] as `read_fixations` returns them; those outside the image are left out, those in
            an image of another size are stretched with it.
        sigma: standard deviation as a share of the longer side. 0.05 is 25 pixels of a 500-pixel CUB image;
            CUB-GHA's own maps take 75 pixels of a 1920 x 1080 screen, 4 % of its width and 7 % of its height.

    Returns:
        The sum of all Gaussians divided by its maximum, at the size [h, w] of the first fixation's image; all
        0 if no fixation lies in the image.
    """
    size, place, duration = fixations[:, :2], fixations[:, 2:4], fixations[:, 4]
    w, h = size[0].astype(int)
    seen = inside(fixations)
    x, y = (place / size * (w, h))[seen].T
    sd = sigma * max(w, h)
    columns, rows = (
        np.exp(-(((np.arange(n) + 0.5 - at[:, None]) / sd) ** 2) / 2) for n, at in ((w, x), (h, y))
    )
    total = (rows * duration[seen, None]).T @ columns
    return (total / (total.max() or 1)).astype(np.float32)


def inside(fixations: np.ndarray) -> np.ndarray:
    """Which fixations [n, 5] lie in their image: bool [n]."""
    size, place = fixations[:, :2], fixations[:, 2:4]
    return ((place >= 0) & (place <= size)).all(1)


def _trial(line: str, where: str) -> tuple[str, list[tuple[float, ...]]]:
    """Image id and fixations (width, height, x, y, milliseconds) of a line of a gaze file."""
    image_id, *texts = (text.strip() for text in line.split(","))
    if not image_id or len(texts) < 5 or len(texts) % 3 != 2:
        raise UserError(
            f"{where} has {len(texts) + 1} fields; a trial is image_id, width, height and then x, y, "
            "milliseconds for each fixation, separated by commas"
        )
    try:
        width, height, *rest = map(float, texts)
    except ValueError as error:
        raise UserError(f"{where} has a field that is not a number ({error})") from None
    if not all(map(math.isfinite, (width, height, *rest))):
        raise UserError(f"{where} has a field that is not a finite number")
    if min(width, height) < 1 or width * height > MAX_PIXELS or min(rest[2::3]) < 0:
        raise UserError(
            f"{where} has an impossible image size ({width:g} x {height:g}) or a negative duration"
        )
    return image_id, [
        (width, height, *fixation) for fixation in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    ]
