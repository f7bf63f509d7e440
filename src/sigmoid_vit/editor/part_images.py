"""The images of a part: for the network, for the person, and their masks on the grid."""

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sigmoid_vit.annotations.cells import MARKED, cell_means
from sigmoid_vit.annotations.outline import outline
from sigmoid_vit.data import BadImage, BatchTransform, Part, read_image
from sigmoid_vit.data.images import read_region, upright_size
from sigmoid_vit.data.parts import stored_size
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically

PICTURE, THUMBNAIL = 1024, 96  # longer side in pixels, at most
REGION = 4_000_000  # pixels, at most

Mask = Callable[[int], np.ndarray | None]  # image number -> float32 [h, w] in 0..1, None without a mask


class PartImages:
    """The images of one part of a data set, each decoded when it is needed; a bad file raises `BadImage`.

    One thread decodes one file at a time, so that large ones take the memory of one: the memory that a thread
    has used stays with it.

    Args:
        transform: makes the network's input of them.
        cache: folder for what is kept of image files: their thumbnails and the size they are read in.
        mask: gives the mask of an image; None where there are no masks.
    """

    def __init__(self, part: Part, transform: BatchTransform, cache: Path, mask: Mask | None) -> None:
        self.part, self.transform, self.cache, self.mask = part, transform, cache, mask
        self._decoder = ThreadPoolExecutor(1, "images")

    def __len__(self) -> int:
        return len(self.part)

    def pixels(self, i: int) -> Tensor:
        """Image i as `Part.prepare` keeps it: uint8 [3, h, w]."""
        if self.part.images is not None:
            return self.part.images[i]
        return self._decode(self.part.decode, i, self.stored_size, self.transform.interpolation)

    @cached_property
    def stored_size(self) -> tuple[int, int]:
        """The size (h, w) that the images of files are read in, as `Part.prepare` keeps them.

        It is kept on disk, as it may take the headers of all files.
        """
        file = self.cache / f"{self.part.name}_size.json"
        key = hashlib.sha256(f"{self.transform.size} {self.file_states()}".encode()).hexdigest()
        with suppress(OSError, ValueError, KeyError, TypeError):  # none, or a damaged one
            kept = json.loads(file.read_bytes())
            if kept["key"] == key:
                h, w = kept["size"]
                return h, w
        size = stored_size(map(_size, self.part.paths), self.transform.size)
        write_cache(file, json.dumps({"key": key, "size": size}).encode())
        return size

    def file_states(self) -> str:
        """Size and time of change of every file, as far as it is there; nothing where there are no files."""
        states = (path.stat() if path.exists() else None for path in self.part.paths or ())
        return "".join(f"{state and (state.st_size, state.st_mtime_ns)}" for state in states)

    def outline(self, i: int) -> np.ndarray:
        """The border of the mask of image i, see `outline`; no lines where it has none."""
        pixels = self.mask(i) if self.mask else None
        return np.zeros((0, 4), np.float32) if pixels is None else outline(pixels >= MARKED)

    def cover(self, i: int, grid: tuple[int, int]) -> np.ndarray | None:
        """Share of each cell that the mask of image i marks, float64 [gh, gw]; None if it marks nothing."""
        pixels = self.mask(i) if self.mask else None
        if pixels is None or not (marked := pixels >= MARKED).any():
            return None
        return cell_means(marked, grid)

    def sha256(self, i: int) -> str:
        """As `Part.sha256`."""
        with self._readable(i):
            return self.part.sha256(i)

    def shown_size(self, i: int) -> tuple[int, int]:
        """Width and height of the original, upright."""
        if self.part.paths is None:
            return tuple(self.part.images.shape[:1:-1])
        return tuple(upright_size(self.part.paths[i])[::-1])

    def picture(self, i: int) -> bytes:
        """The whole image as PNG, at its own size or with a longer side of PICTURE."""
        return self._decode(self._picture, i)

    def _picture(self, i: int) -> bytes:
        image = self._image(i, PICTURE)
        image.thumbnail((PICTURE, PICTURE), Image.Resampling.BICUBIC)
        return _encoded(image, "PNG", compress_level=1)

    def close_up(self, i: int, box: tuple[int, int, int, int], shrink: int) -> bytes:
        """A part of the image as PNG, see `read_region`. Raises `UserError` outside it, or beyond REGION."""
        (w, h), (left, top, right, bottom) = self.shown_size(i), box
        if not (left < right <= w and top < bottom <= h):
            raise UserError(f"the close-up must lie in the image of {w} x {h} pixels")
        if (right - left) * (bottom - top) > REGION * shrink**2:
            raise UserError(f"a close-up has at most {REGION} pixels: take a smaller one, or a larger shrink")
        return self._decode(self._close_up, i, box, shrink)

    def _close_up(self, i: int, box: tuple[int, int, int, int], shrink: int) -> bytes:
        if self.part.paths is None:
            image = self._image(i, PICTURE).crop(box).reduce(shrink)
        else:
            image = read_region(self.part.paths[i], box, shrink, self.part.value_range)
        return _encoded(image, "PNG", compress_level=1)

    def thumbnail(self, i: int) -> bytes:
        """The whole image as JPEG with a longer side of THUMBNAIL, kept on disk if it comes from a file."""
        if self.part.paths is None:
            return _thumbnail(self._image(i, THUMBNAIL))
        with self._readable(i):
            state = self.part.paths[i].stat()
        key = os.fsencode(f"{self.part.paths[i].absolute()} {state.st_size} {state.st_mtime_ns}")
        file = self.cache / "thumbnails" / f"{hashlib.sha256(key).hexdigest()[:32]}.jpg"
        with suppress(OSError):  # there is none, or it is another user's
            return file.read_bytes()
        content = self._decode(lambda: _thumbnail(self._image(i, THUMBNAIL)))
        write_cache(file, content)
        return content

    def _decode(self, work: Callable, *args) -> Any:
        return self._decoder.submit(work, *args).result()

    def _image(self, i: int, longer_side: int) -> Image.Image:
        """Image i with at least these pixels on its longer side, if it has so many."""
        if self.part.paths is None:
            return F.to_pil_image(self.part.images[i])
        return read_image(self.part.paths[i], longer_side, self.part.value_range)

    @contextmanager
    def _readable(self, i: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadImage(self.part.paths[i], f"cannot be read ({error})") from error


def write_cache(path: Path, content: bytes) -> None:
    """Keep what can be computed again; a disk that does not take it is a warning and does no harm."""
    try:
        write_atomically(path, lambda file: file.write(content), private=True)
    except UserError as error:
        print(f"warning: {error}", file=sys.stderr)


def _size(path: Path) -> tuple[int, int] | BadImage:
    try:
        return upright_size(path)
    except BadImage as bad:
        return bad


def _thumbnail(image: Image.Image) -> bytes:
    enlarged = max(image.size) < THUMBNAIL  # small images keep their pixels visible
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
    size = [max(1, round(side * THUMBNAIL / max(image.size))) for side in image.size]
    return _encoded(image.resize(size, method), "JPEG", quality=85)


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
