"""One part of a data set (train, val or test), and the batches of uint8 images made from it."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from sigmoid_vit.data.images import BadImage, decode, for_each_file, listed, upright_size
from sigmoid_vit.data.value_range import ValueRange
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256

MAX_WORKERS = 16
AHEAD = 2  # batches that DataLoader lets each process decode ahead
SHARED_MEMORY = "/dev/shm"  # where processes hand each other images

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # images, labels, index


@dataclass
class Part:
    """The images of one part of a data set, as files or in memory, each with an id and a label."""

    ids: list[str]  # path relative to the data set, or "<part>/<index>" where there are no files
    labels: np.ndarray  # int64 [n], positions in `classes`
    classes: list[str]
    paths: list[Path] | None = None
    images: torch.Tensor | None = None  # uint8 [n, 3, h, w], instead of paths
    masks: list[Callable] | None = None  # each returns the object mask of its image, or None
    boxes: list[Callable] | None = None  # each returns the bounding box of its image, or None
    name: str = "train"
    value_range: ValueRange | None = None  # of its deep images; None: that of each by itself
    skip_bad_images: bool = False
    skipped: list[BadImage] = field(default_factory=list)  # shared with the data module

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int], name: str | None = None) -> "Part":
        """The part's images at these positions, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        lists = {key: getattr(self, key) for key in ("ids", "paths", "masks", "boxes")}
        chosen = {key: values and [values[i] for i in indices] for key, values in lists.items()}
        images = None if self.images is None else self.images[torch.from_numpy(indices)]
        return replace(self, **chosen, labels=self.labels[indices], images=images, name=name or self.name)

    def mask(self, i: int) -> np.ndarray | None:
        """Where the object is in image `i`: float32 [H, W] in 0..1 at the image's size; None if not known."""
        return self.masks[i]() if self.masks else None

    def box(self, i: int) -> np.ndarray | None:
        """The object's bounding box: float32 (left, top, right, bottom) in pixels of image `i`, or None."""
        return self.boxes[i]() if self.boxes else None

    def sha256(self, i: int) -> str:
        """SHA-256 of the file of image `i`, or of its uint8 pixels [3, h, w] where there is no file."""
        if self.paths is not None:
            return sha256(self.paths[i])
        return hashlib.sha256(self.images[i].cpu().contiguous().numpy()).hexdigest()

    def decode(self, i: int, size: tuple[int, int], interpolation: str) -> torch.Tensor:
        """The whole file of image `i` resized to `size` (H, W), antialiased: uint8 [3, H, W]."""
        return decode(self.paths[i], size, interpolation, self.value_range)

    def prepare(
        self,
        img_size: tuple[int, int],
        cache_gib: float = 4.0,
        workers: int = 0,
        interpolation: str = "bicubic",
    ) -> "Prepared":
        """Decode every file once, so that a bad one is known before training begins.

        Images of one common size that fits into `img_size` (H, W) stay as they are; all others become
        `img_size`, the whole image antialiased with `interpolation`. As uint8 they are kept in memory when
        they take at most `cache_gib`, else decoded anew for each batch by `workers` processes (0: one per
        core, at most 16); the pixels are the same. Bad files are dropped if `skip_bad_images` was asked for;
        otherwise a `UserError` names them all.
        """
        workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
        if self.images is not None:
            return Prepared(self, tuple(self.images.shape[-2:]), self.images, interpolation, workers)

        sizes = for_each_file(lambda i: upright_size(self.paths[i]), len(self), workers, f"check {self.name}")
        size = stored_size(sizes, img_size)  # (h, w)
        in_memory = len(self) * 3 * size[0] * size[1] <= cache_gib * 2**30
        images = torch.empty(len(self), 3, *size, dtype=torch.uint8) if in_memory else None

        def check(i: int) -> None:
            pixels = self.decode(i, size, interpolation)
            if in_memory:
                images[i] = pixels

        bad = for_each_file(check, len(self), workers, f"decode {self.name}")
        part = self
        if any(bad):
            good = [i for i, why in enumerate(bad) if why is None]
            part = self._without_bad(list(filter(None, bad)), good)
            images = images[good] if in_memory else None
        return Prepared(part, size, images, interpolation, workers)

    def _without_bad(self, bad: list[BadImage], good: list[int]) -> "Part":
        names = listed(bad, between="\n  ")
        text = f"{len(bad)} of {len(self)} files in {self.name} cannot be used:\n  {names}\n"
        if not self.skip_bad_images:
            raise UserError(text + "repair or remove them, or drop them with --skip_bad_images")
        part = self.subset(good)
        lost = np.setdiff1d(self.labels, part.labels)
        if len(lost) and (self.name != "val" or not good):
            raise UserError(
                f"{text}without them no image is left of {listed([self.classes[k] for k in lost])}"
            )
        print(text + "they are dropped (--skip_bad_images)")
        self.skipped += bad
        return part


def stored_size(sizes: Iterable, img_size: tuple[int, int]) -> tuple[int, int]:
    """The size (h, w) that the images of a part are kept in: their common one if it fits into `img_size`.

    Images of different sizes, or larger ones, are kept in `img_size`. Bad images (`BadImage`) do not count.
    """
    common = None
    for size in sizes:
        if isinstance(size, BadImage):
            continue
        fits = all(a <= b for a, b in zip(size, img_size, strict=True))
        if not fits or size != (common := common or size):
            return tuple(img_size)
    return common or tuple(img_size)


@dataclass
class Prepared:
    """A part whose files are checked and whose images have one size; batches are drawn from it."""

    part: Part  # without the files that were dropped: positions and labels agree with `batches`
    size: tuple[int, int]  # (h, w) of the uint8 images
    images: torch.Tensor | None  # uint8 [n, 3, h, w]; None: decoded for each batch
    interpolation: str
    workers: int

    def __len__(self) -> int:
        return len(self.part)

    def subset(self, indices: np.ndarray) -> "Prepared":
        """The images at these positions, in this order."""
        images = None if self.images is None else self.images[torch.from_numpy(np.asarray(indices))]
        return replace(self, part=self.part.subset(indices), images=images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int, int]:
        """Image uint8 [3, h, w], label and position, as DataLoader's workers ask for them."""
        if self.images is not None:
            return self.images[i], self.part.labels[i], i
        return self.part.decode(i, self.size, self.interpolation), self.part.labels[i], i

    def pixels(self, chosen: Sequence[int]) -> torch.Tensor:
        """The images at these positions, uint8 [B, 3, h, w]."""
        return next(self.batches([np.array(chosen)]))[0]

    def _workers_with_memory(self, batch_size: int) -> int:
        """Decoding processes; 0, which is this one, where the memory for their batches is not there."""
        needed = batch_size * 3 * self.size[0] * self.size[1] * AHEAD * self.workers
        fits = _free_memory(f"the batches of {self.workers} decoding processes", needed)
        return self.workers if fits else 0

    def batches(self, index_batches: Sequence[np.ndarray]) -> Iterator[Batch]:
        """For each array of positions: images uint8 [B, 3, h, w], labels int64 [B], index int64 [B].

        Images are on the device of `images` (move them to the GPU and no batch is copied), the rest on CPU.
        """
        if self.images is None:
            yield from DataLoader(
                self,
                batch_sampler=[batch.tolist() for batch in index_batches],
                num_workers=self._workers_with_memory(max(map(len, index_batches), default=0)),
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # leaves torch's global random state alone
            )
            return
        labels = torch.from_numpy(self.part.labels)
        for batch in index_batches:
            index = torch.from_numpy(batch)
            yield self.images[index.to(self.images.device)], labels[index], index


@cache
def _free_memory(what: str, needed: int) -> bool:
    """Whether the memory that processes share has so many bytes left; told once where it has not."""
    try:
        there = os.statvfs(SHARED_MEMORY)
    except OSError:
        return True  # not Linux
    free = there.f_bavail * there.f_frsize
    if free < needed:
        print(
            f"warning: {SHARED_MEMORY} has {free >> 20} MiB free, but {what} need {needed >> 20} MiB: "
            "images are decoded in the training process, which is slower (give Docker --shm-size=8g)",
            file=sys.stderr,
        )
    return free >= needed


def epoch_batches(n: int, batch_size: int, seed: int, epoch: int, shuffle: bool = True) -> list[np.ndarray]:
    """Positions 0..n-1 in batches, the last one possibly smaller: a function of its arguments alone."""
    order = np.random.default_rng([seed, epoch]).permutation(n) if shuffle else np.arange(n)
    return np.split(order, range(batch_size, n, batch_size))
