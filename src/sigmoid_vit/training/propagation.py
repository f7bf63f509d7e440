"""Propagation: the edits of a few images teach a network to predict those of the others.

A copy of the network learns the edits alone, without labels, until its own attention shows them; on an image
that nobody edited, its attention then is the prediction. What a score means is measured by cross-validation:
every edit is predicted by a copy that was not taught it. An edit that agrees with its prediction far less
than others do is doubted: it stays in force on its own image, but does not teach how to edit the others.
"""

import copy
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sigmoid_vit.data import Prepared
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.store import PROPAGATED, EditStore, StoredEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.readout import sigmoid_map
from sigmoid_vit.runs.network import Network
from sigmoid_vit.runs.settings import Settings
from sigmoid_vit.training.alignment import AlignmentLoss
from sigmoid_vit.training.loop import Loop

FOLDS = 4  # of the edited images: each is predicted by a copy that learned the others
LEAST = FOLDS  # edited images
SURE = 0.8  # probability from which a cell counts as kept, or as erased; cells between stay unedited
CONFIDENCE = 0.9  # mean probability of an image's cells from which its prediction is kept
COIN = 0.5  # share of cells that a coin gets right; an edit nearer to it than to the best quarter is doubted
KEPT = 0.5  # an edited value from here on keeps its cell, one below it erases it


@dataclass
class Prediction:
    """Predicted edits of the n images of a part."""

    maps: EditMaps  # for images that are edited already, and where the copy is not sure, no edit
    confidence: np.ndarray  # float [n] in 0..1, mean over the cells of the probability of the likelier kind
    doubted: list[int]  # images whose own edits disagree with what the others teach
    report: dict  # for config.json

    @property
    def says(self) -> str:
        """The report in a line for the person."""
        r, agreement = self.report, self.report["agreement"]
        right, n = agreement["cells right"], agreement["held-out images"]
        line = (
            f"{right:.1%} of the cells of {n} edits are predicted right by copies that did not learn them; "
        )
        line += f"{r['predicted']} images predicted, {r['not sure']} left out as not sure"
        if r["nothing kept"]:
            line += f", {r['nothing kept']} because they would keep no cell, as no edit does"
        return line + "; look again at " * bool(self.doubted) + ", ".join(r["look again at"])


@dataclass
class Targets:
    """What the edits say of each cell: look here, or do not; and how a predicted edit writes that down."""

    maps: EditMaps
    kept_value: float | None  # None: people left such cells to the network
    erased_value: float | None

    @classmethod
    def of(cls, maps: EditMaps) -> "Targets":
        """People's edits; where they only ever erase (or keep), the cells they left alone are the others."""
        value, edited = maps.value.clone(), maps.edited.clone()
        kept, erased = edited & (value >= KEPT), edited & (value < KEPT)
        values = [value[cells].median().item() if cells.any() else None for cells in (kept, erased)]
        if None in values:
            edited[torch.from_numpy(maps.has_edit)] = True
            value = torch.where(maps.edited, value, 0.0 if values[1] is None else 1.0)
        return cls(EditMaps(value, edited), *values)


@dataclass
class Teacher:
    """Teaches copies of a network the edits of some images and lets them look at others."""

    network: Network  # what is copied; it stays as it is
    train: Prepared  # the images

    def scores(self, maps: EditMaps, taught: np.ndarray, number: int, images: np.ndarray) -> Tensor:
        """What copy `number`, having learned the edits of `taught`, says of these images: [n, gh, gw].

        Args:
            maps: edits of the images of `train`.
            taught, images: positions in `train`.
        """
        if not len(images):
            return maps.value[:0]
        n, accelerator = len(taught), self.network.accelerator
        copied = replace(self.network, model=copy.deepcopy(self.network.model))
        settings, part = _teaching(self.network.settings, n), self.train.subset(taught)
        loss, transform = AlignmentLoss(copied.model, settings), copied.train_transform(n)
        loop = Loop(settings, accelerator, loss, part, transform, maps.subset(taught), None)
        if accelerator.is_main_process:
            what = f"copy {number + 1} of {FOLDS + 1} learns {n} edits"
            print(f"propagation: {what}, {settings.epochs * loop.updates_per_epoch} steps", flush=True)
        for epoch in range(settings.epochs):
            loop.train_one_epoch(epoch)
        return attention_scores(copied, self.train, images)

    def cross_validated(self, maps: EditMaps, edited: np.ndarray) -> Tensor:
        """The scores of the edited images, each by a copy that learned the edits of others only."""
        order, parts = np.random.default_rng(self.network.settings.seed).permutation(edited), []
        for fold in range(FOLDS):
            taught = np.sort(np.delete(order, slice(fold, None, FOLDS)))
            parts.append(self.scores(maps, taught, fold, order[fold::FOLDS]))
        positions = np.concatenate([order[fold::FOLDS] for fold in range(FOLDS)])
        return torch.cat(parts)[np.argsort(positions)]


def propagate(teacher: Teacher, maps: EditMaps) -> Prediction:
    """Predict the edits of the images of `teacher.train` that have none in `maps`.

    Raises:
        UserError: fewer than 4 images are edited, or their edits say the same of every cell.
    """
    edited, unedited = _split(maps.has_edit)
    if len(edited) < LEAST:
        raise UserError(f"PROPAGATE needs at least {LEAST} edited training images; there are {len(edited)}")
    targets = Targets.of(maps)
    seen, truth = teacher.cross_validated(targets.maps, edited), targets.maps.subset(edited)
    agreement, right = _agreement(seen, truth)
    enough = (COIN + np.quantile(right, 0.75)) / 2
    trusted, doubted = _split(right >= enough)

    images = np.concatenate([unedited, edited[doubted]])
    found = teacher.scores(targets.maps, edited[trusted], FOLDS, images)
    kept = _platt(seen[trusted], truth.subset(trusted))(found)
    # a slip misleads the copies that learned it; this one learned none, so it has the last word
    doubted = doubted[_share_right(kept[len(unedited) :] >= 0.5, truth.subset(doubted)) < enough]
    doubted = edited[doubted].tolist()
    report = {"agreement": agreement, "look again at": [teacher.train.part.ids[i] for i in doubted]}
    return _prediction(kept[: len(unedited)], unedited, targets, doubted, report)


def attention_scores(network: Network, part: Prepared, images: np.ndarray, batch_size: int = 64) -> Tensor:
    """Logit of the sigmoid attention on each cell of these images, [n, gh, gw].

    The sigmoid attention is a mean over all layers, heads and query rows.
    """
    network.model.eval()
    found = [torch.zeros(0, *network.grid)]
    for x in network.batches(part, images, batch_size):
        with torch.no_grad(), network.accelerator.autocast():
            _, logits = network.model.forward_with_attention(x, layers="all", queries="all")
        layers = [sigmoid_map(layer.float(), network.grid).mean(1) for layer in logits.values()]
        found.append(torch.stack(layers).mean(0).logit(1e-4).cpu())
    return torch.cat(found)


def _teaching(settings: Settings, n: int) -> Settings:
    """How a copy is taught n edits: Step 2's optimiser and schedule, for PROPAGATE_STEPS updates."""
    batch_size = min(settings.batch_size, n)
    epochs = math.ceil(settings.propagate_steps / math.ceil(n / batch_size))
    recipe = dict(attn_loss="bce", edit_layers="all", edit_queries="all", grad_accum=1, compile=False)
    return replace(settings, batch_size=batch_size, epochs=epochs, **recipe)


def _agreement(scores: Tensor, truth: EditMaps) -> tuple[dict, np.ndarray]:
    """How often predictions of n edited images agree with their edits, and the share of each, float [n].

    Agreement is measured on each half of the images with the scaling of the other half.
    """
    halves, says_keep = np.arange(len(scores)) % 2, torch.zeros_like(truth.edited)
    for at, other in (_split(halves == 0), _split(halves == 1)):
        says_keep[at] = _platt(scores[other], truth.subset(other))(scores[at]) >= 0.5
    edited, kept = truth.edited, truth.edited & (truth.value >= KEPT)
    right = says_keep == kept
    if not 0 < kept.sum() < edited.sum():
        raise UserError(
            "the edits say the same of every cell, so there is nothing that propagation could learn"
        )
    agreement = {
        "held-out images": len(scores),
        "cells right": right[edited].float().mean().item(),
        "kept cells right": right[kept].float().mean().item(),
        "erased cells right": right[edited & ~kept].float().mean().item(),
    }
    return agreement, _share_right(says_keep, truth)


def _share_right(says_keep: Tensor, truth: EditMaps) -> np.ndarray:
    """The share of each image's edited cells predicted right, float [n]; says_keep bool [n, gh, gw]."""
    right = truth.edited & (says_keep == (truth.value >= KEPT))
    return (right.flatten(1).sum(1) / truth.edited.flatten(1).sum(1)).numpy()


def _split(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask holds and where it does not."""
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def _platt(scores: Tensor, truth: EditMaps) -> Callable[[Tensor], Tensor]:
    """Logistic regression of "kept" on the score; the score itself where the edits hold one kind alone."""
    x, y = scores[truth.edited].numpy()[:, None], (truth.value >= KEPT)[truth.edited].numpy()
    if y.all() or not y.any():
        return torch.sigmoid
    fit = LogisticRegression().fit(x, y)
    return lambda z: torch.sigmoid(z * fit.coef_.item() + fit.intercept_.item())


def _prediction(
    kept: Tensor, unedited: np.ndarray, targets: Targets, doubted: list[int], report: dict
) -> Prediction:
    """Edits from the probability that a cell is kept, [m, gh, gw], of the unedited images."""
    n = len(targets.maps.value)
    certain = torch.maximum(kept, 1 - kept)
    confidence = np.zeros(n)
    confidence[unedited] = certain.flatten(1).mean(1).numpy()
    maps, at = EditMaps.empty(n, tuple(kept.shape[1:])), torch.from_numpy(unedited)
    for cells, written in ((kept >= SURE, targets.kept_value), (kept <= 1 - SURE, targets.erased_value)):
        if written is not None:
            maps.value[at] = torch.where(cells, written, maps.value[at])
            maps.edited[at] |= cells
    maps.edited &= torch.from_numpy(confidence >= CONFIDENCE)[:, None, None]
    sure, says = int(maps.has_edit.sum()), targets.maps
    says = says.subset(np.setdiff1d(np.flatnonzero(says.has_edit), doubted))
    if (says.edited & (says.value >= KEPT)).flatten(1).any(1).all():
        # "erase it all" is what nobody said of any image; images of a class without the object get it
        maps.edited[at[~(kept >= 0.5).flatten(1).any(1)]] = False
    maps.value[~maps.edited] = 0
    maps.propagated = maps.has_edit
    used = int(maps.has_edit.sum())
    report = {**report, "predicted": used, "not sure": len(unedited) - sure, "nothing kept": sure - used}
    return Prediction(maps, confidence, doubted, report)


def save_predictions(
    path: str, train: Prepared, prediction: Prediction, note: str, weights_sha256: str
) -> None:
    """Put predicted edits into a store in place of earlier predictions; people's word always wins.

    An image whose newest revision is a person's, be it an edit, a skip or a rejected prediction, is left
    alone. An earlier prediction that is not made again is marked deleted.
    """
    part, maps = train.part, prediction.maps
    with EditStore(path) as store:
        newest = {edit.image_id: edit for edit in store.history()}
        edits = []
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
                        confidence=float(prediction.confidence[i]),
                    )
                )
            elif before and not before.deleted:
                gone = dict(deleted=True, created=None, client_id=secrets.token_hex(16))
                edits.append(replace(before, **gone))
        store.save_many(edits)
