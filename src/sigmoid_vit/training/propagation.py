"""Propagation: the edits of a few images teach a classifier of cells how the others are to be edited.

What it is worth is measured by cross-validation over images: every edit is compared with what a classifier
says that did not learn that image. Where this is no better than calling every cell the commonest kind,
nothing is edited. An edit that contradicts what the others teach is doubted: it stays in force on its own
image, but does not teach.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from torch import Tensor

from sigmoid_vit.data import Prepared
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.next_images import EDIT_NEXT
from sigmoid_vit.edits.store import PROPAGATED, EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.cell_features import KEPT, CellClassifier, LabelledCells, erased_cells
from sigmoid_vit.training.propagation_report import SETTLED, Agreement, advice, says, teach_most

FOLDS = 4  # of the edited images: each is compared with a classifier that learned the others
LEAST = FOLDS  # edited images
ERASED = 0.5  # probability from which a cell is erased: there most cells are right
SURE = 0.5  # expected overlap with a person's edit from which an image is edited
RELIABLE = 0.75  # median agreement of the edits from which one that agrees far less is doubted
COIN = 0.5  # agreement that a coin gets; an edit nearer to it than to the best quarter may be doubted
CONTRADICTED = 5.0  # log odds against an edit from which it is: 150 to 1; one cell missed by a little is none
ENOUGH = 0.1  # of the unedited images: where fewer are edited, Step 2 does not go on without a word


@dataclass
class Propagation:
    """Propagated edits of the n images of a part."""

    maps: EditMaps  # no edit for images that are edited already and those that were left
    confidence: np.ndarray  # float [n] in 0..1, the overlap expected with what a person would mark
    doubted: list[int]  # images whose own edits disagree with what the others teach
    report: dict  # for config.json and the editor's queue

    @property
    def says(self) -> str:
        """The report in a few lines for the person."""
        return says(self.report)

    def require_enough(self) -> None:
        """Stop Step 2 where next to no image was edited.

        Raises:
            UserError: what to do instead.
        """
        r = self.report
        unedited = r["propagated"] + sum(r["left"].values())
        if r["propagated"] < ENOUGH * unedited:
            raise UserError(
                f"{self.says}\nStep 2 does not go on with the few edits alone; {advice(r)}, or train without "
                "propagation: PROPAGATE=false with UNEDITED=train keeps the other images as they are; "
                "without UNEDITED=train, the edited ones are all it learns from"
            )


@dataclass
class Targets:
    """What the edits say of each cell, keep or erase; and how a propagated edit writes that down."""

    maps: EditMaps
    kept_value: float | None  # None: people left such cells to the network
    erased_value: float | None

    @classmethod
    def of(cls, maps: EditMaps) -> "Targets":
        """People's edits; where they only ever erase (or keep), the cells they left alone are the others.

        Raises:
            UserError: they say the same of every cell.
        """
        value, edited = maps.value.clone(), maps.edited.clone()
        kept, erased = edited & (value >= KEPT), edited & (value < KEPT)
        values = [value[cells].median().item() if cells.any() else None for cells in (kept, erased)]
        if None in values:
            edited[torch.from_numpy(maps.has_edit)] = True
            value = torch.where(maps.edited, value, 0.0 if values[1] is None else 1.0)
        if not 0 < (edited & (value >= KEPT)).sum() < edited.sum():
            raise UserError(
                "the edits say the same of every cell, so there is nothing that propagation could learn"
            )
        return cls(EditMaps(value, edited), *values)

    @property
    def rarer_is_erased(self) -> bool:
        """Whether fewer cells are erased than kept."""
        return bool(2 * erased_cells(self.maps).sum() <= self.maps.edited.sum())


def propagate(network: Network, train: Prepared, maps: EditMaps) -> Propagation:
    """Propagate edits to the images of `train` that have none in `maps` and are not settled.

    Raises:
        UserError: fewer than 4 images are edited, or their edits say the same of every cell.
    """
    edited, unedited = np.flatnonzero(maps.has_edit), np.flatnonzero(~(maps.has_edit | maps.settled))
    if len(edited) < LEAST:
        raise UserError(f"PROPAGATE needs at least {LEAST} edited training images; there are {len(edited)}")
    targets, seed = Targets.of(maps), network.settings.seed
    cells = LabelledCells.of(network, train, targets.maps, edited, seed)
    held_out, truth = _cross_validated(network, train, cells, edited), targets.maps.subset(edited)
    doubtful = _doubtful(held_out, _calibration(held_out, truth)(held_out), truth)
    if doubtful.any():  # a slip misleads the classifiers that learned it
        held_out[~doubtful] = _cross_validated(network, train, cells, edited[~doubtful])
    classifier = CellClassifier(cells, edited[~doubtful], seed)
    held_out[doubtful] = classifier.erased(network, train, edited[doubtful])
    calibrated = _calibration(held_out[~doubtful], truth.subset(np.flatnonzero(~doubtful)))
    doubtful &= _contradicted(held_out, calibrated(held_out), truth, RELIABLE)
    doubted, rest = edited[doubtful].tolist(), np.flatnonzero(~doubtful)
    agreement = Agreement.of(held_out[rest] >= ERASED, truth.subset(rest))
    if not agreement.beats_trivial:
        return _nothing(targets, train, maps, unedited, agreement, doubted)
    found = classifier.erased(network, train, unedited)
    report = _report(train, maps, doubted, agreement)
    return _written(found, calibrated(found), unedited, targets, train, report, doubted)


def _cross_validated(network: Network, train: Prepared, cells: LabelledCells, edited: np.ndarray) -> Tensor:
    """The probability that a cell is erased, [k, gh, gw], by classifiers that learned other images only."""
    seed, found = network.settings.seed, torch.zeros(len(edited), *network.grid)
    for learned, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(edited):
        classifier = CellClassifier(cells, edited[learned], seed)
        found[held_out] = classifier.erased(network, train, edited[held_out])
    return found


def _calibration(probability: Tensor, truth: EditMaps) -> Callable[[Tensor], Tensor]:
    """From a classifier's probability to how often it is right: logistic regression on its logit (Platt)."""

    def logit(p: Tensor) -> Tensor:
        return p.logit(eps=1e-3)

    fit = LogisticRegression()
    fit.fit(logit(probability[truth.edited]).numpy()[:, None], erased_cells(truth)[truth.edited].numpy())
    return lambda p: torch.sigmoid(logit(p) * fit.coef_.item() + fit.intercept_.item())


def _agreement_of_each(probability: Tensor, truth: EditMaps) -> np.ndarray:
    """The share of each edit's cells that the classifier gets right, 0..1 [k]: the mean over its kinds.

    Both kinds count alike, however few cells one has; a coin gets COIN.
    """
    by_people, by_classifier = erased_cells(truth), probability >= ERASED
    total, kinds = torch.zeros(len(by_people)), torch.zeros(len(by_people))
    for of_kind, right in ((by_people, by_classifier), (truth.edited & ~by_people, ~by_classifier)):
        count = of_kind.flatten(1).sum(1)
        total += (right & of_kind).flatten(1).sum(1) / count.clamp(min=1)
        kinds += count > 0
    return (total / kinds.clamp(min=1)).numpy()


def _doubtful(probability: Tensor, calibrated: Tensor, truth: EditMaps) -> np.ndarray:
    """Which edits agree far less than the others, bool [k]; none where the edits teach too little to tell."""
    right = _agreement_of_each(probability, truth)
    if np.median(right) < RELIABLE:
        return np.zeros(len(right), dtype=bool)
    return _contradicted(probability, calibrated, truth, (COIN + np.quantile(right, 0.75)) / 2)


def _contradicted(probability: Tensor, calibrated: Tensor, truth: EditMaps, enough: float) -> np.ndarray:
    """Which edits agree less than `enough` with the classifier, with long odds against them: bool [k].

    The odds are those of the likelier kind in every cell that the edit calls the other one.
    """
    odds = calibrated.logit(eps=1e-6)
    against = torch.where(erased_cells(truth), -odds, odds).clamp(min=0) * truth.edited
    low = _agreement_of_each(probability, truth) < enough
    return low & (against.flatten(1).sum(1).numpy() > CONTRADICTED)


def _expected_overlap(marked: Tensor, probability: Tensor) -> np.ndarray:
    """Expected intersection over union of marked cells [m, gh, gw] with a person's, 0..1 [m].

    Args:
        probability: that a person would mark the cell, calibrated.
    """
    sums = [(t * probability).flatten(1).sum(1) for t in (marked, ~marked)]
    return (sums[0] / (marked.flatten(1).sum(1) + sums[1]).clamp(min=1e-9)).numpy()


def _report(train: Prepared, maps: EditMaps, doubted: list[int], agreement: Agreement) -> dict:
    """What is known before any image is edited."""
    ids, labels, classes = train.part.ids, train.part.labels, train.part.classes
    without = np.setdiff1d(labels, labels[maps.has_edit | maps.unchanged])
    return {
        "agreement": agreement.as_dict(),
        SETTLED: int((maps.settled & ~maps.has_edit).sum()),
        "look again at": [ids[i] for i in doubted],
        "classes without an edit": [classes[k] for k in without],
    }


def _nothing(
    targets: Targets,
    train: Prepared,
    maps: EditMaps,
    unedited: np.ndarray,
    agreement: Agreement,
    doubted: list[int],
) -> Propagation:
    """The outcome where the classifier is no better than the trivial one: no edit."""
    n, grid = len(train), tuple(targets.maps.value.shape[1:])
    none = np.zeros(n)
    report = _report(train, maps, doubted, agreement)
    report |= {"propagated": 0, "left": {"not better than the commonest kind": len(unedited)}}
    report[EDIT_NEXT] = teach_most(train.part, unedited, none[unedited])
    return Propagation(EditMaps.empty(n, grid), none, doubted, report)


def _written(
    found: Tensor,
    probability: Tensor,
    unedited: np.ndarray,
    targets: Targets,
    train: Prepared,
    report: dict,
    doubted: list[int],
) -> Propagation:
    """Edits from the classifier's and the calibrated probability that cells are erased, [m, gh, gw] each."""
    erased, rare = found >= ERASED, targets.rarer_is_erased
    overlap = _expected_overlap(*((erased, probability) if rare else (~erased, 1 - probability)))
    says_both = targets.maps.subset(np.setdiff1d(np.flatnonzero(targets.maps.has_edit), doubted))
    nothing = {  # "erase it all" is what nobody said of any image; images without the object get it
        "nothing to erase": ~_any(erased) & _any(erased_cells(says_both)).all(),
        "nothing kept": ~_any(~erased) & _any(says_both.edited & ~erased_cells(says_both)).all(),
    }
    empty = nothing["nothing to erase"] | nothing["nothing kept"]
    used = ~empty & (overlap >= SURE)
    maps, confidence = EditMaps.empty(len(train), tuple(found.shape[1:])), np.zeros(len(train))
    confidence[unedited] = overlap
    at = torch.from_numpy(unedited[used])
    for cells, value in ((~erased[used], targets.kept_value), (erased[used], targets.erased_value)):
        if value is not None:
            maps.value[at] = torch.where(cells, value, maps.value[at])
            maps.edited[at] |= cells
    maps.propagated = maps.has_edit
    left = {reason: int(images.sum()) for reason, images in nothing.items()}
    left["not sure"] = int((~empty & ~used).sum())
    report |= {"propagated": int(used.sum()), "left": left}
    report[EDIT_NEXT] = teach_most(train.part, unedited, confidence[unedited])
    return Propagation(maps, confidence, doubted, report)


def _any(cells: Tensor) -> np.ndarray:
    """Which images have such a cell: bool [m]."""
    return cells.flatten(1).any(1).numpy()


def save_propagated(
    path: str, train: Prepared, propagation: Propagation, note: str, weights_sha256: str
) -> None:
    """Put propagated edits into a store in place of earlier ones; people's word always wins.

    An image whose newest revision is a person's, be it an edit, a skip or a rejected propagated edit, is left
    alone, also if it was saved just now. An earlier propagated edit that is not made again is marked deleted.
    """
    part, maps = train.part, propagation.maps
    with EditStore(path) as store:
        newest, edits = store.newest_all(), []
        for i, image_id in enumerate(part.ids):
            before = newest.get(image_id)
            if before and before.author != PROPAGATED:
                continue
            if maps.propagated[i]:
                edits.append(
                    StoredEdit(
                        image_id,
                        part.sha256(i),
                        maps.value[i].numpy(),
                        maps.edited[i].numpy(),
                        PROPAGATED,
                        note=note,
                        weights_sha256=weights_sha256,
                        confidence=float(propagation.confidence[i]),
                        base=before and before.revision,
                    )
                )
            elif before and not before.deleted:
                gone = dict(deleted=True, created=None, client_id=secrets.token_hex(16), base=before.revision)
                edits.append(replace(before, **gone))
        store.save_unless_changed(edits)
