"""Small images, runs and edits to break: squares on noise, and the edits that erase the squares."""

from pathlib import Path

import numpy as np
from helpers.runs import settings, untrained_run
from PIL import Image

from sigmoid_vit.data import Part
from sigmoid_vit.edits.store import EditStore, StoredEdit
from sigmoid_vit.runs.folder import Run

SIZE, PATCH = 16, 4
MODEL = ["--model_name", "vit_tiny_patch16_224", "--pretrained", "false", "--img_size", str(SIZE)]
MODEL += [
    "--model_kwargs",
    f"patch_size={PATCH}",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "drop_path_rate=0.2",
]
SHORT = ["--epochs", "3", "--batch_size", "16", "--val_fraction", "0.2", "--hflip", "0.5"]


def images(folder: Path, per_class: int = 60) -> Path:
    """A data set `folder`: 2 classes of dark noise with a white square on one cell of each image."""
    for label, name in enumerate("ab"):
        where = folder / "train" / name
        where.mkdir(parents=True)
        for i in range(per_class):
            random = np.random.default_rng([label, i])
            pixels = random.integers(0, 80, (SIZE, SIZE, 3), dtype=np.uint8)
            y, x = PATCH * random.integers(SIZE // PATCH, size=2)
            pixels[y : y + PATCH, x : x + PATCH] = 255 - 100 * label
            Image.fromarray(pixels).save(where / f"{i:02}.png")
    return folder


def options(dataset: Path, *more: object) -> list[str]:
    """Settings of a short training on such images."""
    return ["--dataset", "folder", "--dataset_path", str(dataset), *MODEL, *SHORT, *map(str, more)]


def run_settings(folder: Path, dataset: Path, *more: object):
    """Of the run `folder`/run."""
    return settings(folder, *options(dataset, *more))


def a_run(folder: Path, dataset: Path) -> Run:
    """A run on the images, with random weights."""
    return untrained_run(folder, *options(dataset))


def square_edits(part: Part, positions: np.ndarray) -> list[StoredEdit]:
    """Edits that erase the square of these images."""
    edits = []
    for i in positions:
        pixels = np.asarray(Image.open(part.paths[i])).mean(-1)
        cells = pixels.reshape(SIZE // PATCH, PATCH, -1, PATCH).mean((1, 3))
        edited = cells > 100
        edits.append(
            StoredEdit(part.ids[i], part.sha256(i), np.zeros(cells.shape, np.float32), edited, "mika")
        )
    return edits


def store(path: Path, part: Part, count: int) -> Path:
    """A store with the edits of so many images of the part, evenly spread."""
    at = np.linspace(0, len(part) - 1, count).astype(int)
    with EditStore(path) as edits:
        edits.save_many(square_edits(part, at))
    return path
