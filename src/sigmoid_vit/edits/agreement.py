"""How far people agree on which cells to erase, where several edited the same image independently.

Compared are, for every image and every two of its authors, their last edits of it that each made without
having seen another's: all of the author's revisions of the image up to that one were made when it had no
edit, or his own. Whoever opens an edited image sees that edit, so people who shall be compared work on stores
of their own, or on images whose edit was taken away before. Propagated edits count as another's; reviews,
skips and "nothing to change" are no edits. An edit that its author took back is not compared, and neither are
two edits that erase no cell.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from sigmoid_vit.edits.status import is_review
from sigmoid_vit.edits.store import PROPAGATED, StoredEdit

ALL = "all classes"
ERASED = 0.5  # a cell is erased by a value below


@dataclass(frozen=True)
class ClassAgreement:
    """The agreement of a class, or of all.

    Attributes:
        images: edited independently by at least two people, one of whom at least erased a cell.
        pairs: of two people on one image.
        iou: intersection over union of the erased cells, 0..1: the mean over images of the mean over pairs.
        chance: the same between one's edit of an image and the other's of another image of the class, over
            all such images; None where there is no other image.
    """

    name: str
    images: int
    pairs: int
    iou: float
    chance: float | None


def independent_edits(history: Iterable[StoredEdit]) -> dict[str, dict[str, StoredEdit]]:
    """image id -> author -> the edit that is compared.

    Args:
        history: revisions of any images, oldest first.
    """
    found: dict[str, dict[str, StoredEdit]] = defaultdict(dict)
    current: dict[str, str | None] = {}  # image id -> whose edit it has
    seen = set()  # (image id, author) who has seen another's edit
    for edit in history:
        image, author = edit.image_id, edit.author
        whose = current.get(image)
        if whose not in (None, author):
            seen.add((image, author))
        if is_review(edit):
            continue
        if edit.deleted and whose == author:
            found[image].pop(author, None)
        current[image] = author if edit.edited.any() and not edit.deleted else None
        if current[image] and author != PROPAGATED and (image, author) not in seen:
            found[image][author] = edit
    return found


def agreement(
    histories: Iterable[Iterable[StoredEdit]], class_of: Mapping[str, str] | None = None
) -> list[ClassAgreement]:
    """The agreement in one store or between several, all classes together first.

    Args:
        histories: of each store, all revisions, oldest first. The same name is the same person, whose later
            edit counts.
        class_of: the class of each image id; without it, there is only that of all images together, and
            chance is among all of them.
    """
    merged: dict[str, dict[str, StoredEdit]] = defaultdict(dict)
    for history in histories:
        for image, by_author in independent_edits(history).items():
            for author, edit in by_author.items():
                other = merged[image].get(author)
                merged[image][author] = max(filter(None, (other, edit)), key=lambda each: each.created)
    groups: dict[str, list[list[tuple[np.ndarray, np.ndarray]]]] = defaultdict(list)
    for image, by_author in sorted(merged.items()):
        if pairs := _pairs(by_author):
            groups[class_of.get(image, "unknown") if class_of else ALL].append(pairs)
    rows = [_of_class(name, images) for name, images in sorted(groups.items())]
    return [_together(rows), *rows] if class_of and rows else rows


def as_json(rows: list[ClassAgreement]) -> dict:
    """The figures with what they mean, for an export."""
    classes = [asdict(row) for row in rows]
    return {"definition": " ".join(__doc__.split()), "erased by a value below": ERASED, "classes": classes}


def as_text(rows: list[ClassAgreement]) -> str:
    """A table for a person."""
    if not rows:
        return "no image was edited independently by two people"
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  images  pairs    IoU  by chance"]
    for row in rows:
        chance = "-" if row.chance is None else f"{row.chance:.3f}"
        lines.append(f"{row.name:{width}}  {row.images:6d}  {row.pairs:5d}  {row.iou:.3f}  {chance:>9}")
    return "\n".join(lines)


def _pairs(by_author: dict[str, StoredEdit]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The erased cells of every two people, bool [cells] each, on the finest of their grids."""
    if len(by_author) < 2:
        return []
    grid = max((edit.value.shape[-2:] for edit in by_author.values()), key=np.prod)
    erased = []
    for _, edit in sorted(by_author.items()):
        value, edited = edit.on_grid(grid)
        erased.append((edited & (value < ERASED)).flatten().numpy())
    return [(a, b) for a, b in itertools.combinations(erased, 2) if (a | b).any()]


def _of_class(name: str, images: list[list[tuple[np.ndarray, np.ndarray]]]) -> ClassAgreement:
    iou = float(np.mean([np.mean([_iou(a, b) for a, b in pairs]) for pairs in images]))
    others = [
        _iou(a, b)
        for one, other in itertools.permutations(images, 2)
        for (a, _), (_, b) in itertools.product(one, other)
        if a.shape == b.shape
    ]
    chance = float(np.mean(others)) if others else None
    return ClassAgreement(name, len(images), sum(map(len, images)), iou, chance)


def _together(rows: list[ClassAgreement]) -> ClassAgreement:
    """All classes, each image with the same weight; chance over those classes that have one."""
    iou = np.average([row.iou for row in rows], weights=[row.images for row in rows])
    known = [row for row in rows if row.chance is not None]
    chance = None
    if known:
        chance = float(np.average([row.chance for row in known], weights=[row.images for row in known]))
    return ClassAgreement(ALL, sum(r.images for r in rows), sum(r.pairs for r in rows), float(iou), chance)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    """0 where neither has a cell."""
    return float((a & b).sum() / max(1, (a | b).sum()))
