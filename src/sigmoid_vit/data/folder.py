"""`folder`: the user's own images in train/<class>/ and, if there are any, val/ and test/ (or test_*/)."""

import os
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np

from sigmoid_vit.data.dataset import DataModule, check_classes
from sigmoid_vit.data.images import SUFFIXES, BadImage, listed, open_image
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text

# by file managers and storage, besides all hidden names
LEFT_BEHIND = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "@recycle"}
LEFT_BEHIND |= {"$recycle.bin", "system volume information", "lost+found", "__pycache__"}
# beside images, of annotation tools and people; any other file is taken for an image and must be one
SIDECARS = {".json", ".jsonl", ".xml", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".xmp"}
SIDECARS |= {".log", ".ini", ".cfg", ".db", ".cache", ".pbtxt", ".lst", ".xlsx"}
PART_NAMES = {  # what other tools call the folders of the parts
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class ImageFolder(DataModule):
    """A folder per part, in it a folder per class; images may lie in further folders inside a class.

    Parts have the names of PART_NAMES, in any case, or test_*. Files that lie beside images, as annotation
    tools write them, are told and not used. A part besides train may lack classes, which is told.

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
        self.folders = _parts(path) if path.is_dir() else {}
        if "train" not in self.folders:
            raise UserError(_no_train(path.absolute()))
        if self.train_folder != "train":
            self.folders["train"] = self.train_folder
        if not (path / self.folders["train"]).is_dir():
            raise UserError(f"there is no {path / self.train_folder} to train on; DATA_KWARGS asks for it")
        self.part_names = tuple(self.folders)
        self.class_folders = in_order(_folders(path / self.folders["train"]))
        if len(self.class_folders) < 2:
            found = listed(self.class_folders) or "none"
            raise UserError(f"{path / self.folders['train']} needs at least 2 class folders; it has {found}")
        for name in self.folders.values():
            check_classes(self.class_folders, _folders(path / name), str(path / name), all_of_them=False)
        return path

    def read(self, name: str) -> Part:
        folder, classes = self.root / self.folders[name], self.class_folders
        stray = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix.lower() in SUFFIXES]
        if stray:
            raise UserError(f"images outside any class folder, move them into one: {listed(stray)}")
        own = [self.root / part for part in self.folders.values()]
        files = {class_name: _files(folder / class_name, own) for class_name in classes}
        beside = [p for found in files.values() for p in found if p.suffix.lower() in SIDECARS]
        if beside:
            print(
                f"{folder}: {len(beside)} files beside the images are not used ({listed(beside, 3)})",
                file=sys.stderr,
            )
            files = {k: [p for p in found if p.suffix.lower() not in SIDECARS] for k, found in files.items()}
        masks = [path for found in files.values() for path in _masks(found)]
        if masks:
            self.masks_beside_images = True
            print(f"{folder}: {len(masks)} masks beside their images ({listed(masks, 3)})", file=sys.stderr)
            files = {
                name: [path for path in found if path not in set(masks)] for name, found in files.items()
            }
        empty = [folder / class_name for class_name in classes if not files[class_name]]
        if empty and (name == "train" or len(empty) == len(classes)):
            raise UserError(f"class folders without images, fill or remove them: {listed(empty)}")
        if empty:
            lacking = listed([as_text(path.name) for path in empty])
            print(f"{folder}: no images of {lacking}; the figures are of the other classes", file=sys.stderr)
        paths = [path for class_name in classes for path in files[class_name]]
        labels = np.repeat(np.arange(len(classes)), [len(files[class_name]) for class_name in classes])
        ids = [as_text(path.relative_to(self.root)) for path in paths]
        return Part(ids, labels, [as_text(name) for name in classes], paths)


def images_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The image files in a folder and the folders in it, sorted, and what else lies there, masks too."""
    found = _files(folder, [folder])
    masks = set(_masks(found))
    images = [path for path in found if path.suffix.lower() in SUFFIXES and path not in masks]
    return images, [path for path in found if path not in set(images)]


def _no_train(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder {path}; DATASET_PATH is the folder that holds train/<class>/"
    if path.name.lower() in sum(PART_NAMES.values(), ()):
        return f"{path} is one part of a data set; DATASET_PATH is the folder above it, {path.parent}"
    found = listed(_folders(path))
    holds = f"it holds the folders {found}; if these are classes, move them into" if found else "expected"
    return f"there is no train/ in {path}: {holds} {path / 'train'}/"


def _parts(path: Path) -> dict[str, str]:
    """The folders of the parts by the parts' names, train first."""
    folders, parts = _folders(path), {}
    for part, names in PART_NAMES.items():
        found = [folder for folder in folders if folder.lower() in names]
        if len(found) > 1:
            raise UserError(f"{path} has {listed(found, between=' and ')}: keep one {part} folder")
        if found:
            parts[part] = found[0]
    others = [folder for folder in folders if folder.lower().startswith("test_")]
    return parts | {folder: folder for folder in others}


def in_order(names: list[str]) -> list[str]:
    """Class names sorted; where all of them are numbers, by these: 2 before 10."""
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LEFT_BEHIND


def _folders(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir() and _visible(child.name))


def _files(folder: Path, parts: list[Path]) -> list[Path]:
    """All files below a class folder, sorted; what is not an image is found by `Part.prepare`.

    A link to a folder is followed, unless that is in a part of the data set or holds one: its images would
    count twice, or in two classes.
    """
    files = []
    for where, folders, names in os.walk(folder, followlinks=True):
        if _leads_back(Path(where), parts):
            folders[:] = []
            continue
        folders[:] = filter(_visible, folders)
        files += [Path(where, name) for name in names if _visible(name)]
    return sorted(files)


def _leads_back(folder: Path, parts: list[Path]) -> bool:
    """Whether a folder is a link into one of the parts, or to a folder that holds one; it is told."""
    leads, real = folder.resolve(), [part.resolve() for part in parts]
    is_own = any(part.is_relative_to(leads) or leads.is_relative_to(part) for part in real)
    if not (folder.is_symlink() and is_own):
        return False
    print(f"{folder} is not followed: it is a link to {leads}", file=sys.stderr)
    return True


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
