"""Images with masks beside them, and the import of masks as edits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigmoid_vit.annotations.import_options import ImportOptions
from sigmoid_vit.annotations.importing import import_edits
from sigmoid_vit.edits.store import EditStore

W, H = 24, 16  # of the images below, in pixels


def stored(path):
    """The current edits of a store, by image id."""
    with EditStore(path, readonly=True) as store:
        return store.current_all()


def save(path, pixels):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)
    return path


def block(top, bottom, left, right, size=(H, W), value=255, dtype=np.uint8):
    """A mask [h, w] with a rectangle of this value; bottom and right are not in it."""
    mask = np.zeros(size, dtype)
    mask[top:bottom, left:right] = value
    return mask


@pytest.fixture
def cats_and_dogs(tmp_path):
    """A data set `folder`: two classes with three train images each, and one val image each."""
    for part, names in (("train", "abc"), ("val", "v")):
        for k, class_name in enumerate(("cat", "dog")):
            for i, name in enumerate(names):
                pixels = np.full((H, W, 3), 40 * i + k, np.uint8)
                save(tmp_path / f"data/{part}/{class_name}/{name}.jpg", pixels)
    return tmp_path / "data"


def run_import(folder, source, *paths, grid="4x6", **options):
    """Import on a data set `folder`; returns the account and the store's edits by image id."""
    edits = str(folder / "edits.sqlite")
    options = {"dataset": "folder", "dataset_path": str(folder), "grid": grid, "edits": edits, **options}
    account = import_edits(ImportOptions([source, *map(str, paths)], **options))
    return account, stored(edits)
