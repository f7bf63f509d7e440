"""Small data sets of the kind `folder`, and the batches of a part put together."""

import numpy as np
import torch
from PIL import Image


def save_image(path, size=(12, 10), seed=0):
    """A smooth random image of `size` (width, height), so that JPEG keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(256, size=(3, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def make_folder(root, counts, part="train", size=(12, 10), suffix=".png"):
    for k, (name, n) in enumerate(counts.items()):
        for i in range(n):
            save_image(root / part / name / f"{i:02}{suffix}", size, seed=100 * k + i)
    return root


def collect(prepared, index_batches):
    batches = list(prepared.batches(index_batches))
    return [torch.cat(column) for column in zip(*batches, strict=True)]
