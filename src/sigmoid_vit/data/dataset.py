"""What every data set has in common: its parts, and the validation part cut from train."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from sigmoid_vit.data.groups import group_numbers
from sigmoid_vit.data.images import BadImage, listed
from sigmoid_vit.data.parts import Part
from sigmoid_vit.errors import UserError


class DataModule:
    """A data set on disk or in memory.

    `train` and `val` are read at once, a test part only by `test(name)`. `val` is the data set's own part
    where it has one, otherwise `val_fraction` of train, stratified and seeded, or None when that is 0. Images
    that belong together by `group_by` (see `group_numbers`) are never cut apart.

    A subclass says where its files are (`find`) and lists the images of a part (`read`).
    """

    part_names: tuple[str, ...] = ("train", "test")  # "train", "val" if there is one, then the test parts
    default_path: str | None = None
    options: ClassVar[dict[str, type]] = {}  # further arguments of the class, and their type
    masks_beside_images = False  # whether mask files lie among the images, see `ImageFolder`
    defaults: ClassVar[dict] = {}  # settings the data set prefers: create_model's and the trainer's names

    def __init__(
        self,
        path: str | Path | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        skip_bad_images: bool = False,
        group_by: str = "",
    ):
        if not 0 <= val_fraction < 1:
            raise UserError(f"--val_fraction is {val_fraction}; it is a share of train, from 0 to below 1")
        self.skip_bad_images = skip_bad_images
        self.skipped: list[BadImage] = []  # filled by Part.prepare
        self.root = self.find(self._path(path))
        self.train, self.val = self._part("train"), None
        self.classes = self.train.classes
        if "val" in self.part_names:
            self.val = self._part("val")
            _check_apart(self.train, self.val, group_by)
        elif val_fraction > 0:
            groups = group_numbers(self.train.ids, group_by) if group_by else None
            self.train, self.val = cut_validation(self.train, val_fraction, seed, groups)

    def find(self, path: Path | None) -> Path | None:
        """The folder of the data set, given where the user says it is; `UserError` if it is not there."""
        return path

    def read(self, name: str) -> Part:
        """The images of one of `part_names`, in an order that is the same on every machine."""
        raise NotImplementedError

    @property
    def test_parts(self) -> list[str]:
        """Names of the test parts, known without opening any of their images."""
        return [name for name in self.part_names if name not in ("train", "val")]

    @property
    def default_part(self) -> str:
        """The part a network is judged on: "test", or "val" where there is no test part."""
        return self.test_parts[0] if self.test_parts else "val"

    def part(self, name: str) -> Part:
        """A part by name: train, val or a test part. `UserError` for one that is not there."""
        parts = {"train": self.train} | ({"val": self.val} if self.val else {})
        if name in parts:
            return parts[name]
        if name in self.test_parts:
            return self.test(name)
        there = ", ".join([*parts, *self.test_parts])
        raise UserError(
            f"this data set has no part {name!r}; choose one with --split (SPLIT in the notebook): {there}"
        )

    def test(self, name: str = "test") -> Part:
        """Read a test part. `UserError` for a name that is not in `test_parts`."""
        if name not in self.test_parts:
            there = listed(self.test_parts) or "none"
            raise UserError(f"this data set has no test part {name!r}; its test parts: {there}")
        return self._part(name)

    def _part(self, name: str) -> Part:
        part = self.read(name)
        part.name, part.skip_bad_images, part.skipped = name, self.skip_bad_images, self.skipped
        return part

    def _path(self, path: str | Path | None) -> Path | None:
        path = path or self.default_path
        return Path(path).expanduser() if path else None


def _check_apart(train: Part, val: Part, group_by: str) -> None:
    """Refuse a data set whose own validation part holds images of a group of train."""
    if group_by:
        groups = group_numbers([*train.ids, *val.ids], group_by)
        shared = np.isin(groups[len(train) :], groups[: len(train)])
        if shared.any():
            names = listed([val.ids[i] for i in np.flatnonzero(shared)])
            raise UserError(
                f"val holds images of groups that train has too, by --group_by {group_by}: {names}"
            )


def cut_validation(
    part: Part, fraction: float, seed: int, groups: np.ndarray | None = None
) -> tuple[Part, Part]:
    """Cut a stratified validation part from train: disjoint, together all of it, both in train's order.

    Every class keeps at least one train image; a class with a single image is a `UserError`, not a guess.
    With `groups`, int64 [n], all images of a group go to the same side, and the part is about `fraction`.
    """
    n, counts = len(part), np.bincount(part.labels, minlength=len(part.classes))
    n_val = math.ceil(fraction * n)  # as scikit-learn counts
    advice = "add images, or train without a validation part (--val_fraction 0)"
    if counts.min() < 2:
        few = listed([part.classes[k] for k in np.flatnonzero(counts < 2)])
        raise UserError(f"one image is too few to cut a validation part from, in class {few}: {advice}")
    if not len(counts) <= n_val <= n - len(counts):
        raise UserError(
            f"--val_fraction {fraction} cuts {n_val} of {n} images, but validation and train need at least "
            f"one of each of the {len(counts)} classes: change it, {advice}"
        )
    if groups is None:
        train, val = train_test_split(np.arange(n), test_size=n_val, stratify=part.labels, random_state=seed)
    else:
        train, val = _cut_groups(part, fraction, seed, groups)
    lost = np.setdiff1d(part.labels, part.labels[train])
    if len(lost):
        left = listed([part.classes[k] for k in lost])
        raise UserError(
            f"--val_fraction {fraction} leaves no train image of class {left}: lower it, {advice}"
        )
    return part.subset(np.sort(train), "train"), part.subset(np.sort(val), "val")


def _cut_groups(part: Part, fraction: float, seed: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with whole groups: one fold of about `fraction`, which has to hold every class."""
    folds = round(1 / fraction)
    alone = [c for k, c in enumerate(part.classes) if len(np.unique(groups[part.labels == k])) < 2]
    if folds < 2 or alone:
        why = f"--val_fraction {fraction} is above 0.5" if folds < 2 else f"one group only in {listed(alone)}"
        raise UserError(f"no validation part can be cut by --group_by: {why}; make val/ a part of its own")
    folds = min(folds, len(np.unique(groups)))
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    train, val = next(cut.split(groups, part.labels, groups))
    lacking = listed([part.classes[k] for k in np.setdiff1d(part.labels, part.labels[val])])
    if lacking:
        raise UserError(
            f"--val_fraction {fraction} with --group_by leaves no validation image of class {lacking}: "
            "raise it, or choose another --split_seed, or make val/ a part of its own"
        )
    return train, val


def check_same_classes(train: Sequence[str], other: Sequence[str], where: str) -> None:
    """Refuse a part (`where` says which, and where it is) whose classes are not those of train."""
    missing, extra = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if missing or extra:
        raise UserError(
            f"the classes of {where} differ from those of train: "
            f"missing there {listed(missing) or 'none'}, not in train {listed(extra) or 'none'}"
        )
