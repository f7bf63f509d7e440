"""A standing edit: one edit for every image, as a fixed camera needs it with a clock in its view."""

from pathlib import Path

import torch

from sigmoid_vit.annotations.cells import cell_edit, cells_inside
from sigmoid_vit.annotations.sources import read_mask
from sigmoid_vit.data import BadImage
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.runs.network import Network

COVERED = 0.5  # share of a cell that the mask marks from which the cell stays


def standing_edit(edit: str, store: str | None, network: Network) -> AttentionEdit:
    """The edit of one image that shall hold for all, on the network's grid.

    Args:
        edit: without a store, a mask file over the whole image: white stays, black is erased. With a store,
            the id of an image whose current edit is taken, with its scope.
        store: the store of edits, or None.

    Raises:
        UserError: there is no such mask or edit, or it would erase everything or change nothing.
    """
    standing = _stored(edit, store, network) if store else _from_mask(Path(edit).expanduser(), network)
    if not standing.edited.any():
        raise UserError(f"{edit} edits no cell of the network's grid {network.grid}, so it changes nothing")
    if (standing.edited & (standing.value == 0)).all():
        raise UserError(f"{edit} erases every cell; in a mask, white is what stays and black is erased")
    return standing


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
