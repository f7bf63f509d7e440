"""Masks of photos that EXIF turns: most tools show these upright, some mark the picture as it is stored."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from sigmoid_vit.data.images import open_image

TURNED = "masks in the frame of the stored picture, turned upright with their photo (EXIF)"
UNSURE = (
    "photos that EXIF turns, where no size tells whether the mask was made on the upright or the stored "
    "picture; taken as upright, so look at these"
)


def upright(
    pixels: np.ndarray, path: Path, told: dict[str, set[str]], name: str, sized: bool = True
) -> np.ndarray:
    """The mask or map of a photo in the frame of the upright photo.

    A photo that EXIF turns by a quarter is landscape in one frame and portrait in the other: a mask that has
    the shape of the stored picture is turned, one of the upright shape is not. Where both shapes are alike
    (half a turn, a mirror image, a square), the mask counts as upright.

    Args:
        pixels: [h, w] of any size.
        told: sentences and the names that they are about; TURNED or UNSURE gets `name`.
        sized: the size of the mask is the one it was made in, and not taken from the photo.
    """
    with open_image(path) as image:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        stored = _is_portrait(image.size[::-1])
    if turn not in range(2, 9):
        return pixels
    mask = _is_portrait(pixels.shape) if sized else None
    if turn < 5 or None in (stored, mask):
        told[UNSURE].add(name)
        return pixels
    if mask != stored:
        return pixels
    told[TURNED].add(name)
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = turn
    return np.asarray(ImageOps.exif_transpose(image))


def _is_portrait(size: tuple[int, int]) -> bool | None:
    """Whether the height is more than the width; None for a square."""
    return None if size[0] == size[1] else size[0] > size[1]
