"""Decoys on anybody's images: a grey square in a corner; its shade tells the class in training, then lies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sigmoid_vit.data.folder import ImageFolder
from sigmoid_vit.data.images import for_each_file, read_image
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError

Shade = Callable[[int, int], int | None]  # position, label -> class whose shade is shown


def stamp_decoys(source: str | Path, out: str | Path, cells: int = 8, seed: int = 0) -> dict[str, int]:
    """Copy a `folder` data set with decoys, to see whether a network takes the bait and edits free it.

    Writes out/train and out/test_train_like (the shade tells the class), out/test (shade drawn at random),
    out/test_clean and out/train_clean (no square), as PNG, and out/masks (the square black, the rest white:
    import_edits.py --from masks OUT/masks erases it). The test images are those of source/test, or of
    source/val where there is no test.

    Args:
        source: the data set, with train/<class>/.
        out: a folder that does not exist yet.
        cells: the square is one corner cell of a grid of cells x cells over the image.

    Returns:
        Images written per part.

    Raises:
        UserError: `out` exists, or the source is not such a data set; nothing is left behind.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    if out.exists():
        raise UserError(f"{out} exists and is never overwritten; give another folder")
    data = ImageFolder(source, val_fraction=0)
    tests = [name for name in ("test", "val") if name in data.part_names]
    if not tests:
        raise UserError(f"{source} has neither test/ nor val/; make one of them, to test decoys on")
    train, test, K = data.train, data.read(tests[0]), len(data.classes)
    random = np.random.default_rng(seed).integers(K, size=len(test))
    parts = {
        "train": (train, lambda i, label: label),
        "train_clean": (train, lambda i, label: None),
        "test": (test, lambda i, label: int(random[i])),
        "test_train_like": (test, lambda i, label: label),
        "test_clean": (test, lambda i, label: None),
    }
    try:
        for number, (name, (part, shade)) in enumerate(parts.items()):
            _write(out, name, part, shade, K, cells, [seed, number])
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return {name: len(part) for name, (part, _) in parts.items()}


def stamped(pixels: np.ndarray, grey: int, corner: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy of an image [h, w, 3] with the square, and the mask [h, w]: 0 in the square, 255 elsewhere.

    corner: 0 to 3, top left, top right, bottom left, bottom right.
    """
    h, w = pixels.shape[:2]
    side_h, side_w = max(1, round(h / cells)), max(1, round(w / cells))
    rows = slice(h - side_h, h) if corner // 2 else slice(0, side_h)
    columns = slice(w - side_w, w) if corner % 2 else slice(0, side_w)
    pixels, mask = pixels.copy(), np.full((h, w), 255, dtype=np.uint8)
    pixels[rows, columns], mask[rows, columns] = grey, 0
    return pixels, mask


def _write(out: Path, name: str, part: Part, shade: Shade, K: int, cells: int, seed: list[int]) -> None:
    corner = np.random.default_rng(seed).integers(4, size=len(part))
    greys = np.linspace(255, 30, K).round().astype(int)

    def write(i: int) -> None:
        place = Path(*Path(part.ids[i]).parts[1:]).with_suffix(".png")
        image, shown = read_image(part.paths[i], values=part.value_range), shade(i, part.labels[i])
        if shown is not None:
            pixels, mask = stamped(np.asarray(image), greys[shown], corner[i], cells)
            image = Image.fromarray(pixels)
            if name == "train":
                _save(Image.fromarray(mask), out / "masks" / name / place)
        _save(image, out / name / place)

    bad = [found for found in for_each_file(write, len(part), 4, f"stamp {name}") if found is not None]
    if bad:
        raise UserError(f"{len(bad)} images cannot be used, the first: {bad[0]}")


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
