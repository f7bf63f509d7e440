"""Image files: one way to read them, and one way to say what is wrong with them."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from sigmoid_vit.data.value_range import FLOAT, INTEGER, ValueRange
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

MAX_PIXELS = 89_478_485  # width x height above which a file counts as oversized (PIL warns from here on)
# of the content, whatever the name says
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000")
SUFFIXES = {*IMG_EXTENSIONS, ".jfif", ".jpe", ".jif", ".gif", ".dib", ".pnm", ".avif", ".jp2", ".j2k"}


class BadImage(UserError):
    """An image file that cannot be used. The message is `<path>: <reason>`."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{as_text(path)}: {reason}")
        self.path, self.reason = path, reason


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file, its pixels not yet decoded; whatever goes wrong inside becomes a `BadImage`."""
    try:
        if Path(path).suffix.lower() not in SUFFIXES:
            raise BadImage(path, "not an image file")
        if os.path.getsize(path) == 0:
            raise BadImage(path, "empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(path, f"oversized ({image.width} x {image.height}, limit {MAX_PIXELS} pixels)")
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(path, "not a readable image") from None
    except Exception as error:  # damaged files make PIL's decoders raise nearly anything
        raise BadImage(path, f"cannot be read ({error})") from error


def read_image(path: Path, longer_side: int | None = None, values: ValueRange | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB, turned upright by its EXIF orientation.

    Deep grey images (16 bits, floating-point) are scaled; transparency is dropped. Raises `BadImage`.

    Args:
        values: the range of deep images of the data set; None: that of this image alone (see `white`).
        longer_side: in pixels, if so many will do: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
            where that leaves as many, in as much less memory.
    """
    with open_image(path) as image:
        if longer_side:
            share = min(1, longer_side / max(image.size))
            image.draft(None, [math.ceil(side * share) for side in image.size])
        _say_what_is_cut(image)
        ImageOps.exif_transpose(image, in_place=True)  # loads it
        return _as_rgb(path, image, values or range_of([path]))


def read_region(
    path: Path, box: tuple[int, int, int, int], shrink: int = 1, values: ValueRange | None = None
) -> Image.Image:
    """A part of an image file, as `read_image` shows it; all of it is decoded, a JPEG smaller by `shrink`.

    Args:
        box: left, top, right and bottom in pixels of the upright image, inside it.
        shrink: 1, 2, 4 or 8, how many of these pixels become one, in each direction.
    """
    with open_image(path) as image:
        orientation, (w, h) = _orientation(image), image.size
        stored = _as_stored(box, orientation, w, h)
        image.draft(None, (math.ceil(w / shrink), math.ceil(h / shrink)))
        scale = round(w / image.width)
        left, top, right, bottom = (edge / scale for edge in stored)
        x, y = math.floor(left), math.floor(top)
        part = _as_rgb(
            path, image.crop((x, y, math.ceil(right), math.ceil(bottom))), values or range_of([path])
        )
    size = [math.ceil((end - start) * scale / shrink) for start, end in ((left, right), (top, bottom))]
    part = part.resize(size, Image.Resampling.BICUBIC, (left - x, top - y, right - x, bottom - y))
    part.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(part)


def _orientation(image: Image.Image) -> int:
    """How the pixels are turned by EXIF, 1 for upright; PIL turns those of TIFF itself, as it loads them."""
    return 1 if image.format == "TIFF" else image.getexif().get(ExifTags.Base.Orientation, 1)


def _as_stored(box: Sequence[int], orientation: int, w: int, h: int) -> tuple[int, int, int, int]:
    """A box of the upright image as the file of width w and height h has it, by its EXIF orientation."""
    left, top, right, bottom = box
    if orientation in (5, 6, 7, 8):
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = w - right, w - left
    if orientation in (3, 4, 6, 7):
        top, bottom = h - bottom, h - top
    return left, top, right, bottom


def _as_rgb(path: Path, image: Image.Image, values: ValueRange) -> Image.Image:
    if kind := _deep(image):
        image = Image.fromarray(_to_8_bits(path, _pixels(path, image), kind, values))
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def range_of(paths: Sequence[Path] | None) -> ValueRange:
    """The range of a data set's deep images, found in these training images when it is first needed."""
    return ValueRange(partial(_largest_values, paths or ()))


def _largest_values(paths: Sequence[Path]) -> dict[str, float]:
    """The largest pixel of deep images, by kind; bad files do not count."""

    def look(i: int) -> tuple[str, float] | None:
        with open_image(paths[i]) as image:
            kind = _deep(image)
            return (kind, float(_pixels(paths[i], image).max())) if kind else None

    largest: dict[str, float] = {}
    for found in for_each_file(look, len(paths), os.cpu_count() or 1, "values of deep images"):
        if found and not isinstance(found, BadImage):
            kind, value = found
            largest[kind] = max(value, largest.get(kind, 0))
    return largest


def _deep(image: Image.Image) -> str | None:
    """The kind of an image's pixels where 8 bits do not hold them: see `value_range`."""
    if image.mode.startswith("I"):  # I;16 and its byte orders, or I where PIL widens 16 bits to 32
        return INTEGER
    return FLOAT if image.mode == "F" else None


def _pixels(path: Path, image: Image.Image) -> np.ndarray:
    """The values [h, w] of a deep image, checked."""
    pixels = np.asarray(image)
    if not (pixels.min() >= 0 and np.isfinite(pixels.max())):  # false for NaN as well
        raise BadImage(path, "has pixels below 0, or undefined ones; black must be 0")
    if image.mode != "F" and pixels.max() > 65535:
        raise BadImage(path, "has 32-bit pixels, save it with 8 or 16 bits")
    return pixels


def _to_8_bits(path: Path, pixels: np.ndarray, kind: str, values: ValueRange) -> np.ndarray:
    top = values.white(kind)
    if top is None:
        raise BadImage(path, "has floating-point pixels, which the training images did not have")
    if pixels.max() > top:
        _warn_once(f"images with values above {top:g}, the first {as_text(path)}, are white there")
    return np.minimum(255, np.round(pixels / (top / 255))).astype(np.uint8)


def _say_what_is_cut(image: Image.Image) -> None:
    """Of colours of 16 bits, PIL reads the upper 8."""
    if not _deep(image) and any(";16" in str(tile.args) for tile in image.tile):
        _warn_once("16-bit colours keep their upper 8 bits; 12-bit data in them would be nearly black")


@cache
def _warn_once(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file after its EXIF orientation, from the header alone."""
    with open_image(path) as image:
        turned = _orientation(image) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]


def decode(
    path: Path, size: tuple[int, int], interpolation: str, values: ValueRange | None = None
) -> torch.Tensor:
    """The whole image file resized to `size` (H, W), antialiased: uint8 [3, H, W]; see `read_image`."""
    image = read_image(path, values=values)
    return F.pil_to_tensor(F.resize(image, list(size), InterpolationMode(interpolation)))


def for_each_file(work: Callable[[int], object], n: int, workers: int, title: str) -> list:
    """`work(i)` for i in 0..n-1 on threads; the result for a bad file is its `BadImage`."""

    def attempt(i: int):
        try:
            return work(i)
        except BadImage as bad:
            return bad

    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(attempt, range(n)), desc=title, total=n, disable=None, leave=False))


def listed(names: Sequence[object], limit: int = 10, between: str = ", ") -> str:
    """The first `limit` names, and how many there are when that is not all."""
    more = [f"... ({len(names)} in all)"] if len(names) > limit else []
    return between.join([*map(str, names[:limit]), *more])
