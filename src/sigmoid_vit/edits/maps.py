"""The edits of a part's images as tensors: from the store, and in a run's folder as they were used."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sigmoid_vit.data import DataModule, Part, known_ids
from sigmoid_vit.edits.status import says_unchanged, status_of
from sigmoid_vit.edits.store import PROPAGATED, EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically

ACCOUNT = (  # what becomes of the edits in a store
    "used",
    "of the data set's other images",
    "of unknown images",
    "of changed images",
    "resampled",
    "drawn for a narrower scope",
    "without a marked cell",
    "looked at, nothing to change",
    "sent back by a reviewer",
    "propagated",
)
CHANGED = (
    "where a file was only saved anew and shows what it showed, export_edits.py and then import_edits.py "
    "--from export DIR --same_pictures keep its edit; else restore the file or edit it anew"
)


@dataclass
class EditMaps:
    """The edits of the n images of a part, on one grid; an image without an edit has no edited cell."""

    value: Tensor  # float32 [n, gh, gw] in 0..1
    edited: Tensor  # bool [n, gh, gw]
    propagated: np.ndarray | None = None  # bool [n], by propagation and not by a person; None: all by people
    unchanged: np.ndarray | None = None  # bool [n], a person looked and nothing is edited; None: no image
    settled: np.ndarray | None = None  # bool [n], a person's word is the newest; None: no image

    def __post_init__(self) -> None:
        for name in ("propagated", "unchanged", "settled"):
            if getattr(self, name) is None:
                setattr(self, name, np.zeros(len(self.value), dtype=bool))

    @classmethod
    def empty(cls, n: int, grid: tuple[int, int]) -> "EditMaps":
        """No edit for any of n images."""
        return cls(torch.zeros(n, *grid), torch.zeros(n, *grid, dtype=torch.bool))

    @property
    def has_edit(self) -> np.ndarray:
        """Which images are edited: bool [n]."""
        return self.edited.flatten(1).any(1).numpy()

    @property
    def erased(self) -> Tensor:
        """Which cells are edited to below 0.5, those that injection takes away: bool [n, gh, gw]."""
        return self.edited & (self.value < 0.5)

    @property
    def erases(self) -> np.ndarray:
        """Which images have an erased cell: bool [n]."""
        return self.erased.flatten(1).any(1).numpy()

    def subset(self, indices: np.ndarray) -> "EditMaps":
        """The edits of the images at these positions; what is `settled` is not kept."""
        indices = np.asarray(indices)
        at = torch.from_numpy(indices)
        return EditMaps(self.value[at], self.edited[at], self.propagated[indices], self.unchanged[indices])

    def control(self, kind: str, seed: int) -> "EditMaps":
        """The same images edited otherwise: a control for what the edits say.

        `propagated` and `unchanged` stay with the image, so that the control is planned as the run it is
        compared with.

        Args:
            kind: "shuffled", every edited image gets the edit of another one; "random_cells", the cells of
                each edit are shuffled within its image; "mean_map", all get the mean of the edits, on the
                cells that at least half of them edit.

        Raises:
            UserError: fewer than two images are edited, or no cell on half of them.
        """
        edited = np.flatnonzero(self.has_edit)
        if len(edited) < 2:
            raise UserError(f"CONTROL={kind} needs at least two edited training images; there is one")
        value, mask = self.value[edited].flatten(1), self.edited[edited].flatten(1)
        if kind == "shuffled":
            order, source = np.random.default_rng(seed).permutation(len(edited)), np.arange(len(edited))
            source[order] = np.roll(order, 1)  # one cycle: no image keeps its own edit
            value, mask = value[source], mask[source]
        elif kind == "random_cells":
            cells = np.tile(np.arange(value.shape[1]), (len(edited), 1))
            cells = torch.from_numpy(np.random.default_rng(seed).permuted(cells, axis=1))
            value, mask = value.gather(1, cells), mask.gather(1, cells)
        else:
            count = mask.sum(0)
            value = ((value * mask).sum(0) / count.clamp(min=1)).expand_as(value)
            mask = (2 * count >= len(edited)).expand_as(mask)
            if not mask.any():
                raise UserError(
                    "CONTROL=mean_map: no cell is edited on half of the images, so they have no mean"
                )
        changed = EditMaps.empty(*self.value.shape[:1], tuple(self.value.shape[1:]))
        changed.value[edited], changed.edited[edited] = (
            x.view(-1, *self.value.shape[1:]) for x in (value, mask)
        )
        changed.propagated, changed.unchanged = self.propagated, self.unchanged
        return changed

    def write(self, path: Path, ids: list[str]) -> None:
        """Write the edits of the images with these ids, one id per position, as an npz file.

        An image in it without an edited cell is one that a person looked at.
        """
        at = np.flatnonzero(self.has_edit | self.unchanged)
        arrays = {"value": self.value[at].numpy(), "edited": self.edited[at].numpy()}
        arrays |= {"predicted": self.propagated[at], "ids": np.array([ids[i] for i in at])}
        write_atomically(path, lambda file: np.savez_compressed(file, grid=self.value.shape[1:], **arrays))

    @classmethod
    def read(cls, path: Path, ids: list[str]) -> "EditMaps":
        """The edits that `write` wrote, for images with these ids; those of other images are left out.

        Raises:
            UserError: the file is damaged.
        """
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in ("value", "edited", "predicted", "ids", "grid")}
            if len({len(arrays[name]) for name in arrays if name != "grid"}) > 1:
                raise ValueError("its arrays differ in length")
        except Exception as error:  # a damaged zip file makes zipfile, zlib and numpy raise almost anything
            raise UserError(f"{path} is damaged ({error}); restore it from a copy") from error
        maps = cls.empty(len(ids), tuple(arrays["grid"].tolist()))
        position = {image_id: i for i, image_id in enumerate(ids)}
        rows = [k for k, image_id in enumerate(arrays["ids"]) if image_id in position]
        at = [position[image_id] for image_id in arrays["ids"][rows]]
        maps.value[at], maps.edited[at] = (torch.from_numpy(arrays[k][rows]) for k in ("value", "edited"))
        maps.propagated[at] = arrays["predicted"][rows]
        maps.unchanged[at] = ~maps.has_edit[at]
        return maps


def load_edits(
    path: str, part: Part, grid: tuple[int, int], propagated: bool = False, data: DataModule | None = None
) -> tuple[EditMaps, dict[str, int]]:
    """The current edits of a store for the images of `part`, on the model's grid, and an account of them.

    People's edits, and with `propagated` those of propagation as well. An edit of another image (its sha256
    differs) is not used; one on another grid is resampled, one with values per head is averaged over the
    heads. The scope that an edit was drawn for is not kept: in training EDIT_LAYERS and EDIT_QUERIES hold for
    all of them; one that a reviewer sent back is not used. The account counts these, edits of unknown images,
    apart from them those of other images that `data` knows, images that a person looked at and found nothing
    to change, and other edits that mark no cell (skipped images). An image whose newest revision is a
    person's is `settled`, whether or not its edit is used.

    Raises:
        UserError: there is no store, or no edit of an image of `part` in it.
    """
    maps = EditMaps.empty(len(part), grid)
    with EditStore(path, readonly=True) as store:
        newest = store.newest_all()
    position = {image_id: i for i, image_id in enumerate(part.ids)}
    elsewhere, test_parts = (set(known_ids(data)), data.test_parts) if data else ((), ())
    account = dict.fromkeys(ACCOUNT, 0)
    for image_id, stored in newest.items():
        i = position.get(image_id)
        if i is not None:
            maps.settled[i] = stored.author != PROPAGATED
        if stored.deleted:
            continue
        if stored.author == PROPAGATED and not propagated:
            continue
        if i is None:
            known = image_id in elsewhere or image_id.split("/")[0] in test_parts
            account["of the data set's other images" if known else "of unknown images"] += 1
            continue
        if part.sha256(i) != stored.image_sha256:
            account["of changed images"] += 1
            continue
        if status_of(stored) == "sent_back":
            account["sent back by a reviewer"] += 1
            continue
        if says_unchanged(stored):
            account["looked at, nothing to change"] += 1
            maps.unchanged[i] = True
            continue
        edit, (value, edited) = stored.attention_edit(), stored.on_grid(grid)
        maps.value[i], maps.edited[i], maps.propagated[i] = value, edited, stored.author == PROPAGATED
        if not edited.any():
            account["without a marked cell"] += 1
            continue
        account["used"] += 1
        account["resampled"] += edit.grid != grid
        account["drawn for a narrower scope"] += not edit.everywhere
        account["propagated"] += stored.author == PROPAGATED
    if not account["used"]:
        remedy = "import or draw some there, or evaluate the part that was edited (evaluate.py --split)"
        if account["of changed images"]:
            remedy = CHANGED
        if account["of unknown images"] == sum(account.values()) > 0:
            remedy = "they are edits of another data set's images; name the store of this one"
        raise UserError(
            f"{path} holds no edit of an image in {part.name} ({account_text(account)}); {remedy}"
        )
    return maps, account


def account_text(account: dict[str, int]) -> str:
    """What became of a store's edits, in words: "32 used, 3 of unknown images"."""
    told = [f"{count} {what}" for what, count in account.items() if count]
    return ", ".join(told) or "none at all"
