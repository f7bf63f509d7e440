"""A standing edit: one edit for every image, as a fixed camera needs it with a clock in its view."""

from dataclasses import dataclass
from pathlib import Path

import torch

from sigmoid_vit.annotations.cells import cell_edit, cells_inside
from sigmoid_vit.annotations.mask_files import read_mask
from sigmoid_vit.data import BadImage
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.options import check_options, option
from sigmoid_vit.runs.network import Network

COVERED = 0.5  # share of a cell that the mask marks from which the cell stays


@dataclass(kw_only=True)
class StandingEditOptions:
    """Options of a script that takes a standing edit."""

    edit: str | None = option(
        None,
        "one edit for all images: a mask of the whole image, in which white stays and black is erased; or, "
        "with --edits, the id of an image whose edit is taken",
        metavar="MASK|ID",
    )
    edits: str | None = option(None, "the store that --edit names an image of", metavar="STORE")

    def __post_init__(self) -> None:
        check_options(self)
        if self.edits and not self.edit:
            raise UserError("--edits is given without --edit, the id of the image whose edit is taken")

    def standing_edit(self, network: Network) -> AttentionEdit | None:
        """The edit of one image that shall hold for all, on the network's grid; None where none is asked for.

        The edit of a store keeps its scope.

        Raises:
            UserError: there is no such mask or edit, or it would erase everything or change nothing.
        """
        if not self.edit:
            return None
        if self.edits:
            found = _stored(self.edit, self.edits, network)
        else:
            found = _from_mask(Path(self.edit).expanduser(), network)
        if not found.edited.any():
            grid = "x".join(map(str, network.grid))
            raise UserError(f"{self.edit} edits no cell of the network's {grid} grid, so it changes nothing")
        if (found.edited & (found.value == 0)).all():
            raise UserError(f"{self.edit} erases every cell; in a mask, white is what stays, black is erased")
        return found


def edit_text(edit: AttentionEdit) -> str:
    """How much of the grid it edits, in words."""
    erased = int((edit.edited & (edit.value < 0.5)).sum())
    return f"{int(edit.edited.sum())} of {edit.edited.numel()} cells edited, {erased} of them erased"


def _stored(image_id: str, store: str, network: Network) -> AttentionEdit:
    with EditStore(store, readonly=True) as opened:
        current = opened.current(image_id)
        if current is None:
            known = list(opened.current_all())
            some = f"it has edits of {len(known)} images, such as {known[0]}" if known else "it has no edit"
            raise UserError(f"{store} has no edit of an image {image_id}; {some}")
    return current.attention_edit().resize(network.grid)


def _from_mask(path: Path, network: Network) -> AttentionEdit:
    if not path.is_file():
        raise UserError(f"there is no mask {path}; to take the edit of an image, name its store with --edits")
    try:
        inside = cells_inside(read_mask(path), network.grid, COVERED)
    except BadImage as bad:
        raise UserError(f"the mask {bad}") from bad
    value, edited = cell_edit(inside.astype(float), "background", 1.0)
    return AttentionEdit(torch.from_numpy(value)[None], torch.from_numpy(edited)[None])
