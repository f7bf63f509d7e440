"""`cub200` and `cub200_2011`: the two published editions of Caltech-UCSD Birds, with masks and boxes."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from sigmoid_vit.data.dataset import DataModule, check_classes
from sigmoid_vit.data.images import listed, open_image
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError


class Cub(DataModule):
    """What both editions share; a file is an image of images/, named "<class>/<name>.jpg"."""

    default_path = "data"
    title: str
    required: tuple[str, ...]  # what the folder of the data set must hold
    files: dict[str, list[str]]  # of each part
    class_of: dict[str, str]  # of each file

    def find(self, path: Path) -> Path:
        root = _find_root(path, self.required, self.title)
        self.read_lists(root)
        train, test = self.files["train"], self.files["test"]
        shared = sorted(set(train) & set(test))
        if shared or not train:
            what = f"share {listed(shared)}" if shared else "have no train images"
            raise UserError(f"the lists of {root} {what}: restore them from the published archive")
        check_classes(self._classes(train), self._classes(test), f"the test list of {root}")
        return root

    def read_lists(self, root: Path) -> None:
        """Fill `files` and `class_of` from the official lists."""
        raise NotImplementedError

    def annotation(self, file: str) -> tuple[Callable, Callable]:
        """Two functions that read the mask and the box of a file, see `Part`."""
        raise NotImplementedError

    def read(self, name: str) -> Part:
        files, classes = self.files[name], self._classes(self.files[name])
        paths = [self.root / "images" / file for file in files]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            count = f"{len(missing)} of the {len(files)} {name} images listed are missing in {self.root}"
            raise UserError(f"{count}, unpack the archive again: {listed(missing)}")
        labels = np.array([classes.index(self.class_of[file]) for file in files], dtype=np.int64)
        masks, boxes = map(list, zip(*map(self.annotation, files), strict=True))
        return Part([f"images/{file}" for file in files], labels, classes, paths, masks=masks, boxes=boxes)

    def _classes(self, files: Iterable[str]) -> list[str]:
        return sorted({self.class_of[file] for file in files})  # names begin with their number: 001. to 200.


class Cub2010(Cub):
    """CUB-200-2010: 200 classes, 3,000 train and 3,033 test images, masks and boxes in annotations-mat/."""

    title = "CUB-200-2010"
    required = ("images", "lists/train.txt", "lists/test.txt")

    def read_lists(self, root: Path) -> None:
        self.files = {name: _lines(root / f"lists/{name}.txt") for name in self.part_names}
        self.class_of = {file: file.split("/")[0] for files in self.files.values() for file in files}

    def annotation(self, file: str) -> tuple[Callable, Callable]:
        path = (self.root / "annotations-mat" / file).with_suffix(".mat")
        return partial(_read_mat, path, _mat_mask), partial(_read_mat, path, _mat_box)


class Cub2011(Cub):
    """CUB-200-2011: 200 classes, 5,994 train and 5,794 test images, boxes, and masks in segmentations/.

    The published segmentations unpack beside the data set's folder or inside it; both are found.
    """

    title = "CUB-200-2011"
    tables = ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    required = ("images", *(f"{table}.txt" for table in tables), "classes.txt")

    def read_lists(self, root: Path) -> None:
        file_of, class_id, in_train, box = tables = [_table(root / f"{name}.txt") for name in self.tables]
        class_name = _table(root / "classes.txt")
        if any(table.keys() != file_of.keys() for table in tables):
            raise UserError(
                f"{listed(self.tables)} (.txt) of {root} do not list the same images: restore them"
            )
        if not set(class_id.values()) <= class_name.keys():
            raise UserError(f"{root / 'image_class_labels.txt'} names classes that classes.txt lacks")
        self.class_of = {file: class_name[class_id[key]] for key, file in file_of.items()}
        self.box_of = {file: box[key] for key, file in file_of.items()}
        self.files = {
            name: [file for key, file in file_of.items() if in_train[key] == flag]
            for name, flag in (("train", "1"), ("test", "0"))
        }
        folders = [root / "segmentations", root.parent / "segmentations"]
        self.segmentations = next((folder for folder in folders if folder.is_dir()), folders[0])

    def annotation(self, file: str) -> tuple[Callable, Callable]:
        mask = (self.segmentations / file).with_suffix(".png")
        return partial(_png_mask, mask), partial(_table_box, self.box_of[file])


def _find_root(path: Path, required: tuple[str, ...], title: str) -> Path:
    """The given folder, the one above it or one directly inside it: the first that holds all required."""
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; DATASET_PATH is the folder of {title}")
    inside = sorted(child for child in path.iterdir() if child.is_dir())
    candidates = [path, path.resolve().parent, *inside]
    missing = {root: [name for name in required if not (root / name).exists()] for root in candidates}
    best = min(candidates, key=lambda root: len(missing[root]))
    if missing[best]:
        raise UserError(
            f"no {title} in {path}, nor in the folder above it or those inside it: {best} lacks "
            f"{listed(missing[best])}; DATASET_PATH is the folder that holds {listed(required)}"
        )
    return best


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _table(path: Path) -> dict[str, str]:
    """Lines of "<id> <value>" as a dictionary, in the file's order."""
    rows = [line.split(maxsplit=1) for line in _lines(path)]
    if any(len(row) != 2 for row in rows):
        raise UserError(
            f"{path} has a line that is not '<id> <value>': restore it from the published archive"
        )
    return dict(rows)


def _read_mat(path: Path, take: Callable[[dict], np.ndarray]) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        return take(loadmat(path, simplify_cells=True))
    except Exception as error:  # damaged files make scipy's reader raise nearly anything
        raise UserError(f"{path} is not a CUB-200-2010 annotation ({error}); unpack it again") from error


def _mat_mask(mat: dict) -> np.ndarray:
    return np.asarray(mat["seg"], dtype=np.float32)


def _mat_box(mat: dict) -> np.ndarray:
    return np.array([mat["bbox"][side] for side in ("left", "top", "right", "bottom")], dtype=np.float32)


def _png_mask(path: Path) -> np.ndarray | None:
    """A pixel is the share of the people that marked it as bird; some files have an alpha channel."""
    if not path.is_file():
        return None
    with open_image(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / 255


def _table_box(text: str) -> np.ndarray:
    left, top, width, height = map(float, text.split())
    return np.array([left, top, left + width, top + height], dtype=np.float32)
