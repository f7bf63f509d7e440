"""How much of each cell people marked: what the network's own attention is measured against."""

import os
from dataclasses import dataclass

import numpy as np

from sigmoid_vit.data import BadImage, DataModule, Part
from sigmoid_vit.data.images import for_each_file, listed
from sigmoid_vit.data.part import MAX_WORKERS
from sigmoid_vit.edit_maps import EditMaps, account_text, load_edits
from sigmoid_vit.errors import UserError
from sigmoid_vit.human_attention.cells import MARKED, cell_means
from sigmoid_vit.human_attention.sources import Source, open_source


@dataclass
class Marked:
    """The images of a part on which people marked something."""

    source: str  # where that is known from
    cover: dict[int, np.ndarray]  # position -> float [gh, gw] in 0..1, share of each cell marked, not all 0


def marked_cells(
    data: DataModule, part: Part, grid: tuple[int, int], masks: str | None = None, edits: str | None = None
) -> Marked:
    """What people marked on the images of a part; an image without a mark, or with an empty one, is left out.

    Args:
        grid: the patch grid (gh, gw) that the marks are brought to.
        masks: a folder with a mask per image, laid out as for `import_edits.py --from masks`.
        edits: a store of edits, see `cover_of_edits`; those that a network predicted are not used, and what
            became of the others is told in the source. With neither of the two, the data set's own masks are
            taken, and nothing is found where it has none.

    Raises:
        UserError: both were named, or one that marks nothing in this part, or a file cannot be read.
    """
    if masks and edits:
        raise UserError("--masks and --edits both say what the attention is measured against; give one")
    if masks:
        source = open_source("masks", [masks], data, part)
        marked = Marked(f"masks in {masks}", cover_of_masks(source, part, grid))
        where = source.where
    elif edits:
        maps, account = load_edits(edits, part, grid, data=data)
        marked = Marked(f"edits in {edits} ({account_text(account)})", cover_of_edits(maps))
        where = f"edits in {edits}"
    else:
        own = cover_of_masks(Source(part.mask, "the data set"), part, grid) if part.masks else {}
        return Marked("masks of the data set", own)
    if not marked.cover:
        raise UserError(f"no image of {part.name} is marked in {where}; name others, or leave the option out")
    return marked


def cover_of_masks(source: Source, part: Part, grid: tuple[int, int]) -> dict[int, np.ndarray]:
    """Share of each cell that a mask marks (map at MARKED or more), by position; empty masks are left out."""

    def look(i: int) -> np.ndarray | None:
        pixels = source.read(i)
        return None if pixels is None else cell_means(pixels >= MARKED, grid)

    results = for_each_file(look, len(part), min(os.cpu_count() or 1, MAX_WORKERS), "read masks")
    bad = [result for result in results if isinstance(result, BadImage)]
    if bad and not part.skip_bad_images:
        raise UserError(f"masks that cannot be used, repair or remove them: {listed(bad, between='; ')}")
    return {i: cover for i, cover in enumerate(results) if isinstance(cover, np.ndarray) and cover.any()}


def cover_of_edits(maps: EditMaps) -> dict[int, np.ndarray]:
    """The cells that edits mean to be looked at, 0 or 1, by position; images without an edit are left out.

    They are the edited cells of value 0.5 or more. An edit without any, which only takes cells away, leaves
    the others: its unedited cells.
    """
    inside = (maps.edited & (maps.value >= MARKED)).numpy()
    only_taken_away = ~inside.any((1, 2), keepdims=True)
    cover = np.where(only_taken_away, ~maps.edited.numpy(), inside).astype(np.float64)
    return {i: cover[i] for i in np.flatnonzero(maps.has_edit).tolist() if cover[i].any()}
