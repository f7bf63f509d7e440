"""What every data set has in common: its parts, and the validation part cut from train."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from sigmoid_vit.data.groups import group_names, group_numbers
from sigmoid_vit.data.images import BadImage, listed, range_of
from sigmoid_vit.data.parts import Part
from sigmoid_vit.data.value_range import ValueRange
from sigmoid_vit.errors import UserError


class DataModule:
    """A data set on disk or in memory.

    `train` and `val` are read at once, a test part only by `test(name)`. `val` is the data set's own part
    where it has one, otherwise `val_fraction` of train, stratified and seeded, or None when that is 0. Images
    that belong together by `group_by` (see `group_numbers`) are never cut apart. With `kept`, the ids
    that a run has in train and val, nothing is cut anew. `all_ids` are those of all images that could be in
    train or val. `value_range` is that of all deep images: a run's, or that of the images of train, with
    those that become val.

    A subclass says where its files are (`find`) and lists the images of a part (`read`).
    """

    part_names: tuple[str, ...] = ("train", "test")  # "train", "val" if there is one, then the test parts
    default_path: str | None = None
    options: ClassVar[dict[str, type]] = {}  # further arguments of the class, and their type
    downloads: ClassVar[bool] = False  # whether it fetches what is not there
    order: list[str] | None = None  # of the classes, where a run has another one, see `number_as`
    masks_beside_images = False  # whether mask files lie among the images, see `ImageFolder`
    defaults: ClassVar[dict] = {}  # settings the data set prefers: create_model's and the trainer's names

    def __init__(
        self,
        path: str | Path | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        skip_bad_images: bool = False,
        group_by: str = "",
        kept: Mapping[str, Sequence[str]] | None = None,
        value_range: ValueRange | None = None,
    ):
        if not 0 <= val_fraction < 1:
            raise UserError(f"--val_fraction is {val_fraction}; it is a share of train, from 0 to below 1")
        self.skip_bad_images = skip_bad_images
        self.skipped: list[BadImage] = []  # filled by Part.prepare
        self.value_range = value_range
        self.root = self.find(self._path(path))
        self.train, self.val = self._part("train"), None
        self.classes = self.train.classes
        if "val" in self.part_names:
            self.val = self._part("val")
            _check_apart(self.train, self.val, group_by)
        self.all_ids = [image_id for part in (self.train, self.val) if part for image_id in part.ids]
        if kept is not None:
            self._keep(kept, without_val=val_fraction == 0)
        elif self.val is None and val_fraction > 0:
            groups = group_names(self.train.ids, group_by) if group_by else None
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

    def number_as(self, classes: list[str]) -> None:
        """Number the classes in this order: a run keeps its own, should that of the folder ever change."""
        self.order = self.classes = classes
        for part in filter(None, (self.train, self.val)):
            self._number(part)

    def _number(self, part: Part) -> None:
        part.labels = np.array([self.order.index(name) for name in part.classes])[part.labels]
        part.classes = self.order

    def _keep(self, kept: Mapping[str, Sequence[str]], without_val: bool) -> None:
        """Take these images for train and val in place of a new cut, as far as they are there.

        A kept validation part that was cut from train goes back into it `without_val`.
        """
        train, val = (set(kept.get(name, ())) for name in ("train", "val"))
        if without_val and self.val is None:
            train, val = train | val, set()
        whole = self.train
        source = self.val or whole
        self.train = whole.subset([i for i, name in enumerate(whole.ids) if name in train], "train")
        self.val = source.subset([i for i, name in enumerate(source.ids) if name in val], "val")
        self.val = self.val if len(self.val) else None

    def _part(self, name: str) -> Part:
        part = self.read(name)
        if self.value_range is None:  # of train, which is read first
            self.value_range = range_of(part.paths)
        part.value_range = self.value_range
        part.name, part.skip_bad_images, part.skipped = name, self.skip_bad_images, self.skipped
        if self.order:
            self._number(part)
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
    part: Part, fraction: float, seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[Part, Part]:
    """Cut a stratified validation part from train: disjoint, together all of it, both in train's order.

    Each class is cut by itself: the first `fraction` of its images, at least one, in an order that is a hash
    of the seed and the image's id. So an image that is added or removed moves at most one other image of its
    class. With `groups`, the name of each image's group, all images of a group go to the same side, and the
    share is about `fraction`.

    Raises:
        UserError: a class would be without a train or without a validation image.
    """
    advice = "add images, or train without a validation part (--val_fraction 0)"
    units = np.array(part.ids if groups is None else [str(group) for group in groups])
    by_class = [np.unique(units[part.labels == k], return_counts=True) for k in range(len(part.classes))]
    few = listed([name for name, (names, _) in zip(part.classes, by_class, strict=True) if len(names) < 2])
    if few:
        what = "one image is" if groups is None else "one group (--group_by) is"
        raise UserError(f"{what} too few to cut a validation part from, in class {few}: {advice}")
    in_val = np.isin(units, _chosen_units(by_class, fraction, seed))
    lost = np.setdiff1d(part.labels, part.labels[~in_val])
    if len(lost):
        left = listed([part.classes[k] for k in lost])
        raise UserError(
            f"--val_fraction {fraction} leaves no train image of class {left}: lower it, {advice}"
        )
    return part.subset(np.flatnonzero(~in_val), "train"), part.subset(np.flatnonzero(in_val), "val")


def _chosen_units(by_class: list[tuple[np.ndarray, np.ndarray]], fraction: float, seed: int) -> list[str]:
    """Of each class (names of its images or groups, and how many images each has) the first `fraction`."""

    def place(unit: str) -> bytes:
        return hashlib.sha256(f"{seed}/{unit}".encode()).digest()

    chosen: set[str] = set()
    for names, counts in by_class:
        images = dict(zip(names.tolist(), counts.tolist(), strict=True))
        wanted = max(1, round(fraction * sum(images.values())))
        taken = sum(images[unit] for unit in chosen & images.keys())  # in groups that another class shares
        for unit in sorted(images.keys() - chosen, key=place):
            if taken and 2 * (wanted - taken) < images[unit]:  # without it, the class is nearer to its share
                break
            chosen.add(unit)
            taken += images[unit]
    return sorted(chosen)


def check_classes(train: Sequence[str], other: Sequence[str], where: str, all_of_them: bool = True) -> None:
    """Refuse a part (`where` says which, and where it is) whose classes are not (all of) those of train."""
    missing, extra = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    if extra or (missing and all_of_them):
        raise UserError(
            f"the classes of {where} differ from those of train: "
            f"missing there {listed(missing) or 'none'}, not in train {listed(extra) or 'none'}"
        )
