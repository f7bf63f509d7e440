"""Which images a run was trained and validated on: kept in its folder, held against the data set of today."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from sigmoid_vit.data import DataModule, Part, group_numbers
from sigmoid_vit.data.images import listed
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_csv

COLUMNS = ("part", "id", "class", "sha256")
UNUSED = "unused"  # in place of a part: images that cannot be read, or that Step 1 did not have
COMPARED = 2000  # images of a part whose content is compared, evenly spaced where there are more


@dataclass
class KeptImages:
    """The images of a run's parts, by id."""

    parts: dict[str, list[str]]  # train, val and unused -> ids, in the data set's order
    class_of: dict[str, str] = field(default_factory=dict)  # id -> class name
    sha256: dict[str, str] = field(default_factory=dict)  # id -> digest of its content, of those compared

    @classmethod
    def of(cls, train: Part, val: Part | None, all_ids: list[str]) -> "KeptImages":
        """Those of the parts that training uses, and which of `all_ids` are in neither."""
        parts = {"train": train} | ({"val": val} if val else {})
        ids = {name: part.ids for name, part in parts.items()}
        used = {image_id for found in ids.values() for image_id in found}
        kept = cls({**ids, UNUSED: [image_id for image_id in all_ids if image_id not in used]})
        for part in parts.values():
            kept.class_of |= {i: part.classes[k] for i, k in zip(part.ids, part.labels, strict=True)}
            kept.sha256 |= {part.ids[i]: part.sha256(i) for i in _compared(len(part))}
        return kept

    @classmethod
    def read(cls, path: Path) -> "KeptImages":
        """From images.csv.

        Raises:
            UserError: it is damaged.
        """
        try:
            rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
            if tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
                raise ValueError("a line is not of the form " + ",".join(COLUMNS))
        except (ValueError, IndexError, csv.Error) as error:
            raise UserError(f"{path} is damaged ({error}); restore it from a copy") from error
        kept = cls({})
        for part, image_id, class_name, digest in rows[1:]:
            kept.parts.setdefault(part, []).append(image_id)
            kept.class_of[image_id] = class_name
            if digest:
                kept.sha256[image_id] = digest
        return kept

    @classmethod
    def as_cut_before(cls, data: DataModule, fraction: float, seed: int, group_by: str) -> "KeptImages":
        """Those of a run that did not keep them yet: cut from train, whole in `data`, as was done then."""
        part, n = data.train, len(data.train)
        if group_by:
            groups = group_numbers(part.ids, group_by)
            folds = min(round(1 / fraction), len(np.unique(groups)))
            cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            train, val = next(cut.split(groups, part.labels, groups))
        else:
            n_val = math.ceil(fraction * n)
            train, val = train_test_split(
                np.arange(n), test_size=n_val, stratify=part.labels, random_state=seed
            )
        return cls({name: part.subset(np.sort(at)).ids for name, at in (("train", train), ("val", val))})

    def write(self, path: Path) -> None:
        """To images.csv, a line for each image."""
        ids = [(part, image_id) for part, ids in self.parts.items() for image_id in ids]
        write_csv(
            path, [COLUMNS, *((part, i, self.class_of.get(i, ""), self.sha256.get(i, "")) for part, i in ids)]
        )


@dataclass
class Changes:
    """What became of a run's images since."""

    gone: dict[str, list[str]]  # part -> ids that the data set no longer has
    new: list[str]  # ids that the run does not know
    other_class: list[str]
    other_content: list[str]  # as far as compared
    compared: int

    @classmethod
    def since(cls, kept: KeptImages, data: DataModule) -> "Changes":
        """The kept images held against those of `data`, which was opened with them.

        The bytes of COMPARED images a part are compared as well.
        """
        there, known = set(data.all_ids), {i for ids in kept.parts.values() for i in ids}
        gone = {name: [i for i in kept.parts.get(name, []) if i not in there] for name in ("train", "val")}
        classes, contents, compared = [], [], 0
        for part in filter(None, (data.train, data.val)):
            for i, image_id in enumerate(part.ids):
                if kept.class_of.get(image_id, part.classes[part.labels[i]]) != part.classes[part.labels[i]]:
                    classes.append(image_id)
                if image_id in kept.sha256:
                    compared += 1
                    if part.sha256(i) != kept.sha256[image_id]:
                        contents.append(image_id)
        new = [i for i in data.all_ids if i not in known]
        return cls({n: ids for n, ids in gone.items() if ids}, new, classes, contents, compared)

    @property
    def harmful(self) -> list[str]:
        """A sentence for each change after which the training would be another one."""
        return list(self._harmful())

    def _harmful(self) -> Iterator[str]:
        for name, ids in self.gone.items():
            yield f"{len(ids)} of {name} are gone ({listed(ids, 3)})"
        if self.other_class:
            yield f"{len(self.other_class)} are of another class now ({listed(self.other_class, 3)})"
        if self.other_content:
            yield (
                f"{len(self.other_content)} of {self.compared} compared are another image now "
                f"({listed(self.other_content, 3)})"
            )

    def text(self) -> str:
        """All in one sentence; empty where nothing changed."""
        new = f"{len(self.new)} are new and not used, a new Step 1 would use them ({listed(self.new, 3)})"
        return "; ".join([*self.harmful, *([new] if self.new else [])])


def _compared(n: int) -> np.ndarray:
    """Positions of at most COMPARED of n images, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, COMPARED)).astype(int)) if n else np.arange(0)
