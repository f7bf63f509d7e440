"""Image files: one way to read them, and one way to say what is wrong with them."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

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


def read_image(path: Path, longer_side: int | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB, turned upright by its EXIF orientation.

    16-bit greyscale is scaled to 8 bits, not clipped; transparency is dropped. Raises `BadImage`.

    Args:
        longer_side: in pixels, if so many will do: a JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
            where that leaves as many, in as much less memory.
    """
    with open_image(path) as image:
        if longer_side:
            share = min(1, longer_side / max(image.size))
            image.draft(None, [math.ceil(side * share) for side in image.size])
        ImageOps.exif_transpose(image, in_place=True)  # loads it
        if image.mode.startswith("I"):  # I;16 and its byte orders, or I where PIL widens 16 bits to 32
            image = Image.fromarray(_to_8_bits(path, np.asarray(image)))
        elif image.mode == "F":
            raise BadImage(path, "has floating-point pixels, save it with 8 or 16 bits")
        elif "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(path: Path, pixels: np.ndarray) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise BadImage(path, "has 32-bit pixels, save it with 8 or 16 bits")
    return np.round(pixels / 257).astype(np.uint8)  # 65535 / 257 = 255


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file after its EXIF orientation, from the header alone."""
    with open_image(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]


def decode(path: Path, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """The whole image file resized to `size` (H, W), antialiased: uint8 [3, H, W]."""
    return F.pil_to_tensor(F.resize(read_image(path), list(size), InterpolationMode(interpolation)))


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
