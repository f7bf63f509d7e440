"""`folder`: the user's own images in train/<class>/ and, if there are any, val/ and test/ (or test_*/)."""

import os
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from sigmoid_vit.data.dataset import DataModule, check_same_classes
from sigmoid_vit.data.images import BadImage, listed, open_image
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

LEFT_BEHIND = ("thumbs.db", "desktop.ini", "__macosx")  # by file managers, besides all hidden names


class ImageFolder(DataModule):
    """A folder per part, in it a folder per class; images may lie in further folders inside a class.

    Masks that lie beside their images (7_mask.png, or a black-and-white 7.png, beside 7.jpg) are no images.
    """

    options: ClassVar[dict] = {"train": str}

    def __init__(self, *args, train: str = "train", **kwargs):
        """`train`: the folder to train on, such as train_clean beside train."""
        self.train_folder = train
        super().__init__(*args, **kwargs)

    def find(self, path: Path | None) -> Path:
        if path is None:
            raise UserError("the data set 'folder' needs DATASET_PATH, the folder that holds train/<class>/")
        if not (path / "train").is_dir():
            raise UserError(_no_train(path))
        if not (path / self.train_folder).is_dir():
            raise UserError(f"there is no {path / self.train_folder} to train on; DATA_KWARGS asks for it")
        others = [name for name in _folders(path) if name.startswith("test_")]
        self.part_names = tuple(n for n in ("train", "val", "test", *others) if (path / n).is_dir())
        classes = {name: _folders(path / name) for name in self.part_names}
        if len(classes["train"]) < 2:
            found = listed(classes["train"]) or "none"
            raise UserError(f"{path / 'train'} needs at least 2 class folders; it has {found}")
        for name in self.part_names:
            check_same_classes(classes["train"], classes[name], str(path / name))
        check_same_classes(classes["train"], _folders(path / self.train_folder), self.train_folder)
        return path

    def read(self, name: str) -> Part:
        folder = self.root / (self.train_folder if name == "train" else name)
        classes = _folders(folder)
        stray = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.lower() in IMG_EXTENSIONS]
        if stray:
            raise UserError(f"images outside any class folder, move them into one: {listed(stray)}")
        files = {class_name: _files(folder / class_name) for class_name in classes}
        masks = [path for found in files.values() for path in _masks(found)]
        if masks:
            self.masks_beside_images = True
            print(f"{folder}: {len(masks)} masks beside their images ({listed(masks, 3)})", file=sys.stderr)
            files = {
                name: [path for path in found if path not in set(masks)] for name, found in files.items()
            }
        empty = [folder / class_name for class_name in classes if not files[class_name]]
        if empty:
            raise UserError(f"class folders without images, fill or remove them: {listed(empty)}")
        paths = [path for class_name in classes for path in files[class_name]]
        labels = np.repeat(np.arange(len(classes)), [len(files[class_name]) for class_name in classes])
        ids = [as_text(path.relative_to(self.root)) for path in paths]
        return Part(ids, labels, [as_text(name) for name in classes], paths)


def _no_train(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder {path}; DATASET_PATH is the folder that holds train/<class>/"
    if path.name in ("train", "val", "test"):
        return f"{path} is one part of a data set; DATASET_PATH is the folder above it, {path.parent}"
    found = listed(_folders(path))
    holds = f"it holds the folders {found}; if these are classes, move them into" if found else "expected"
    return f"there is no train/ in {path}: {holds} {path / 'train'}/"


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LEFT_BEHIND


def _folders(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir() and _visible(child.name))


def _files(folder: Path) -> list[Path]:
    """All files below a class folder, sorted; what is not an image is found by `Part.prepare`."""
    files = []
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = filter(_visible, folders)
        files += [Path(where, name) for name in names if _visible(name)]
    return sorted(files)


def _masks(files: list[Path]) -> list[Path]:
    """Those of the files that are the mask of another one: by their name, or by name and black-and-white."""
    images = {path.with_suffix("") for path in files if not path.stem.endswith("_mask")}
    photos = {path.with_suffix("") for path in files if path.suffix.lower() != ".png"}

    def is_mask(path: Path) -> bool:
        bare = path.with_suffix("")
        if path.stem.endswith("_mask"):
            return bare.with_name(bare.name.removesuffix("_mask")) in images
        return path.suffix.lower() == ".png" and bare in photos and _black_and_white(path)

    return [path for path in files if is_mask(path)]


def _black_and_white(path: Path) -> bool:
    try:
        with open_image(path) as image:
            return image.mode in ("1", "L", "P") and image.convert("L").getcolors(2) is not None
    except BadImage:  # told when the part is prepared
        return False
