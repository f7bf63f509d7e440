"""The edits of a store as files that Label Studio and CVAT import, so that a team can look at them there.

A cell becomes the pixels whose centres lie in it, labelled KEEP or ERASE. What the team changed comes back by
`import_edits.py --mask_edit labels`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sigmoid_vit.annotations.cells import ERASE, KEEP, cells_inside
from sigmoid_vit.annotations.formats import cvat, label_studio
from sigmoid_vit.annotations.formats.marks import CellMasks
from sigmoid_vit.data.images import upright_size
from sigmoid_vit.edits.store import PROPAGATED, EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import as_text, sha256, write_atomically

TOOLS = ("label_studio", "cvat")
COVERED = 0.5  # of a cell, from which the import takes it as marked
CONFIG = ".config.xml"  # of the file with Label Studio's labelling interface, behind the name of the tasks


@dataclass
class Exported:
    """What became of the edits of a store; each list holds image ids."""

    out: str
    written: list[str] = field(default_factory=list)
    propagated: int = 0
    absent: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    coarse: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The account for a person."""
        told = [f"{self.out}: edits of {len(self.written)} images, {self.propagated} of them propagated"]
        for what, ids in (
            ("left out, there is no such image file", self.absent),
            ("left out, the image file is not the one that was edited", self.changed),
            ("left out, the edit has no cell", self.unmarked),
            ("images with so few pixels that some cells will not come back as they were", self.coarse),
        ):
            if ids:
                told.append(f"{what}: {len(ids)} ({', '.join(ids[:3])}{', ...' * (len(ids) > 3)})")
        return "\n".join(told)


def export_to_tool(
    store: EditStore, tool: str, images: str | Path, out: str | Path, threshold: float, image_url: str
) -> Exported:
    """Write the current edits for one of TOOLS.

    Args:
        images: the folder of the data set, in which the ids of images are paths.
        out: the file to write; for Label Studio, the labelling interface goes into another one beside it.
        threshold: value from which a cell is KEEP, below it is ERASE; other values are not kept.
        image_url: what Label Studio puts before the path of an image.

    Raises:
        UserError: no edit can be written, or the file cannot.
    """
    account = Exported(str(out))
    masks = list(_cell_masks(store, Path(images).expanduser(), threshold, account))
    if not masks:
        counts = (len(ids) for ids in (account.absent, account.changed, account.unmarked))
        raise UserError(
            "no edit can be written: {} images are not in {} (--images is the data set's folder), "
            "{} are changed, {} edits have no cell".format(next(counts), images, *counts)
        )
    if tool == "cvat":
        _write(out, cvat.write(masks, (KEEP, ERASE)))
    else:
        _write(out, label_studio.write(masks, image_url))
        _write(f"{out}{CONFIG}", label_studio.config((KEEP, ERASE)).encode())
    return account


def _cell_masks(store: EditStore, images: Path, threshold: float, account: Exported) -> Iterator[CellMasks]:
    files = {as_text(path.relative_to(images)): path for path in _all_files(images)}
    for image_id, edit in store.current_all().items():
        path = files.get(image_id)
        if path is None:
            account.absent.append(image_id)
        elif sha256(path) != edit.image_sha256:
            account.changed.append(image_id)
        else:
            size, cells = upright_size(path), _labelled(edit, threshold)
            pixels = {label: on_pixels(found, size) for label, found in cells.items()}
            marked = {label: found for label, found in pixels.items() if found.any()}
            if not marked:
                account.unmarked.append(image_id)
                continue
            if any((cells_inside(pixels[k], cells[k].shape, COVERED) != cells[k]).any() for k in cells):
                account.coarse.append(image_id)
            account.written.append(image_id)
            account.propagated += edit.author == PROPAGATED
            yield CellMasks(image_id, size, marked, edit.author == PROPAGATED, edit.confidence)


def _labelled(edit: StoredEdit, threshold: float) -> dict[str, np.ndarray]:
    """The cells of each label, bool [gh, gw]; values of several heads count as their mean."""
    value, edited = (x.numpy() for x in edit.on_grid(edit.value.shape[-2:]))
    return {KEEP: edited & (value >= threshold), ERASE: edited & (value < threshold)}


def on_pixels(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of an image of `size` whose centres lie in marked cells: bool [h, w]."""
    rows, columns = (
        ((np.arange(n) + 0.5) * k / n).astype(int) for n, k in zip(size, cells.shape, strict=True)
    )
    return cells[rows][:, columns]


def _all_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; --images is the folder of the data set")
    for where, _, names in os.walk(folder, followlinks=True):
        yield from map(Path(where).joinpath, names)


def _write(path: str | Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))
