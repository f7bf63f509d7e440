"""How much of each cell people marked, and how far a map of the network's attention agrees with it."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.segmentation import mean_iou

from sigmoid_vit.annotations.cells import MARKED, cell_means
from sigmoid_vit.annotations.source import Source
from sigmoid_vit.annotations.sources import open_source, own_masks
from sigmoid_vit.data import BadImage, DataModule, Part
from sigmoid_vit.data.images import for_each_file, listed
from sigmoid_vit.data.parts import MAX_WORKERS
from sigmoid_vit.edits.maps import EditMaps, account_text, load_edits
from sigmoid_vit.errors import UserError

IOU_THRESHOLD = 0.5  # on sigmoid attention; on softmax attention and rollout, of their maximum


@dataclass
class MarkedCells:
    """The cells that people marked, on those images of a part on which they marked something."""

    source: str  # the masks or edits they come from, in words
    cover: dict[int, np.ndarray]  # position -> float [gh, gw] in 0..1, share of each cell marked, not all 0


def marked_cells(
    data: DataModule, part: Part, grid: tuple[int, int], masks: str | None = None, edits: str | None = None
) -> MarkedCells:
    """What people marked on the images of a part; an image without a mark, or with an empty one, is left out.

    Args:
        grid: the patch grid (gh, gw) that the marks are brought to.
        masks: a folder with a mask per image, laid out as for `import_edits.py --from masks`.
        edits: a store of edits, see `cover_of_edits`; those that a network predicted are not used, and what
            became of the others is told in the source. With neither of the two, the data set's own masks are
            taken (or those beside its images), and nothing is found where it has none.

    Raises:
        UserError: both were named, or one that marks nothing in this part, or a file cannot be read.
    """
    if masks and edits:
        raise UserError("--masks and --edits both say what the attention is measured against; give one")
    if masks:
        source = open_source("masks", [masks], data, part)
        marked = MarkedCells(f"masks in {masks}", cover_of_masks(source, part, grid))
        where = source.where
    elif edits:
        maps, account = load_edits(edits, part, grid, data=data)
        marked = MarkedCells(f"edits in {edits} ({account_text(account)})", cover_of_edits(maps))
        where = f"edits in {edits}"
    else:
        own = own_masks(data, part)
        return MarkedCells("masks of the data set", cover_of_masks(own, part, grid) if own else {})
    if not marked.cover:
        raise UserError(f"no image of {part.name} is marked in {where}; name others, or leave the option out")
    return marked


def cover_of_masks(source: Source, part: Part, grid: tuple[int, int]) -> dict[int, np.ndarray]:
    """Share of each cell that a mask marks (map at MARKED or more), by position; empty masks are left out."""

    def read_one(i: int) -> np.ndarray | None:
        pixels = source.read(i)
        return None if pixels is None else cell_means(pixels >= MARKED, grid)

    results = for_each_file(read_one, len(part), min(os.cpu_count() or 1, MAX_WORKERS), "read masks")
    bad = [result for result in results if isinstance(result, BadImage)]
    if bad and not part.skip_bad_images:
        raise UserError(f"masks that cannot be used, repair or remove them: {listed(bad, between='; ')}")
    return {i: cover for i, cover in enumerate(results) if isinstance(cover, np.ndarray) and cover.any()}


def cover_of_edits(maps: EditMaps) -> dict[int, np.ndarray]:
    """The cells that edits keep, 0 or 1, by position; images without an edit are left out.

    They are the edited cells of value 0.5 or more. Where an edit only erases, they are the cells that it does
    not erase.
    """
    inside = (maps.edited & (maps.value >= MARKED)).numpy()
    only_erases = ~inside.any((1, 2), keepdims=True)
    cover = np.where(only_erases, ~maps.edited.numpy(), inside).astype(np.float64)
    return {i: cover[i] for i in np.flatnonzero(maps.has_edit).tolist() if cover[i].any()}


def pointing_game(maps: Tensor, cover: Tensor) -> Tensor:
    """Whether the strongest cell lies inside, 0 or 1 for each image: [B].

    A cell is inside when any of it is marked, so that thin objects count. Of equally strong cells it is the
    share that lies inside; a uniform map therefore has the chance level.

    Args:
        maps: attention [B, gh, gw], at least 0.
        cover: share of each cell that is marked, 0..1 [B, gh, gw], as in `epg` and `iou`.
    """
    strongest = maps == maps.amax((1, 2), keepdim=True)
    return (strongest & (cover > 0)).sum((1, 2)) / strongest.sum((1, 2))


def epg(maps: Tensor, cover: Tensor) -> Tensor:
    """Energy pointing game: share of the attention over the patches that falls inside, 0..1 [B].

    A cell counts with the share of it that is marked: `cover`.
    """
    return (maps * cover).sum((1, 2)) / maps.sum((1, 2)).clamp(min=torch.finfo(maps.dtype).tiny)


def iou(maps: Tensor, cover: Tensor, threshold: float = IOU_THRESHOLD) -> Tensor:
    """Intersection over union of the cells at `threshold` or more and those inside, 0..1 [B].

    A cell is inside when any of it is marked.
    """
    return mean_iou((maps >= threshold)[:, None], (cover > 0)[:, None], num_classes=1)


def outside(maps: Tensor, cover: Tensor) -> Tensor:
    """Share of the attention over the patches that falls outside what is marked, 0..1 [B]: 1 - `epg`."""
    return 1 - epg(maps, cover)


MEASURES = {"pointing_game": pointing_game, "epg": epg, "iou": iou}
