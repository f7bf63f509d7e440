"""What propagation tells a person: how far it can be trusted, and which images to edit next."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sigmoid_vit.data import Part
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.next_images import EDIT_NEXT
from sigmoid_vit.training.cell_features import erased_cells

SETTLED = "left by people"  # the key of how many images a person left without an edit
SHOWN = 5  # names in a line; config.json holds all
TEACH_MOST = 64  # images that are offered for the next round
FIRST_ROUND = 32  # edited images that are worth trying before anything else is changed
RESAMPLES = 2000  # of the images, for the interval
CERTAIN = 0.975  # that the classifier is better than the trivial answer


@dataclass
class Agreement:
    """Cells of k edited images, counted by what people and a classifier that did not learn them say: [k]."""

    erased_right: np.ndarray
    erased_wrong: np.ndarray  # erased by the classifier, kept by people
    kept_right: np.ndarray
    kept_wrong: np.ndarray  # kept by the classifier, erased by people

    @classmethod
    def of(cls, erased: Tensor, truth: EditMaps) -> "Agreement":
        """Count the edited cells; `erased` bool [k, gh, gw] is what the classifier says."""
        by_people, edited = erased_cells(truth), truth.edited
        kinds = (erased & by_people, erased & ~by_people, ~erased & ~by_people, ~erased & by_people)
        return cls(*((cells & edited).flatten(1).sum(1).numpy() for cells in kinds))

    @property
    def people_erase(self) -> int:
        return int((self.erased_right + self.kept_wrong).sum())

    @property
    def people_keep(self) -> int:
        return int((self.kept_right + self.erased_wrong).sum())

    @property
    def commonest(self) -> str:
        """The kind that most cells have: what the trivial answer calls every cell."""
        return "erased" if self.people_erase > self.people_keep else "kept"

    @property
    def beats_trivial(self) -> bool:
        """Whether more cells are right than if all were called the commonest kind, and not by chance.

        That is so where, of the cells called the rarer kind, more are right than wrong, in nearly all
        resamples (seeded) of the images.
        """
        if self.commonest == "kept":
            gain = self.erased_right - self.erased_wrong
        else:
            gain = self.kept_right - self.kept_wrong
        drawn = np.random.default_rng(0).integers(len(gain), size=(RESAMPLES, len(gain)))
        return bool((gain[drawn].sum(1) > 0).mean() >= CERTAIN)

    def as_dict(self) -> dict:
        """Shares in 0..1 by kind, beside those of the trivial answer; for config.json."""
        called = {"erased": (self.erased_right, self.erased_wrong, self.people_erase)}
        called["kept"] = (self.kept_right, self.kept_wrong, self.people_keep)
        total = self.people_erase + self.people_keep
        kinds, common = {}, self.commonest
        for kind, (right, wrong, count) in called.items():
            kinds[kind] = {
                "cells": count,
                "precision": _share(right.sum(), right.sum() + wrong.sum()),
                "recall": _share(right.sum(), count),
                "trivial precision": count / total if kind == common else 0.0,
                "trivial recall": float(kind == common),
            }
        return {
            "held-out images": len(self.erased_right),
            "cells right": (self.erased_right.sum() + self.kept_right.sum()).item() / total,
            "trivial cells right": called[common][2] / total,
            "trivial answer": common,
            "better than trivial": self.beats_trivial,
            **kinds,
        }


def says(report: dict) -> str:
    """The report of a propagation in a few lines."""
    a, left, doubted = report["agreement"], report["left"], report["look again at"]
    lines = [
        f"propagation, cross-validated on the {a['held-out images']} edited images{' left' * bool(doubted)} "
        f"(in brackets: if every cell were called {a['trivial answer']}):",
        *(f"  {kind} cells: {_figures(a[kind])}" for kind in ("erased", "kept")),
        f"  cells right: {a['cells right']:.1%} ({a['trivial cells right']:.1%})",
    ]
    reasons = ", ".join(f"{count} {reason}" for reason, count in left.items() if count)
    lines.append(f"  images edited: {report['propagated']}; left without an edit: {reasons or 'none'}")
    if settled := report[SETTLED]:
        lines[-1] += f"; besides, {settled} that a person left without one"
    if doubted:
        text = "edits contradict the others and did not teach, look again at"
        lines.append(f"  {len(doubted)} {text}: {_first(doubted)}")
    return "\n".join([*lines, f"  verdict: {verdict(report)}"])


def verdict(report: dict) -> str:
    """What the figures mean, in a sentence."""
    a, total = report["agreement"], report["propagated"] + sum(report["left"].values())
    if not a["better than trivial"]:
        text = "the edits do not teach where to erase; no more cells are right than if all were called "
        return f"{text}{a['trivial answer']}, so no image was edited"
    if report["propagated"] < total / 2:
        return f"the edits teach a part only, {report['propagated']} of {total} images; {advice(report)}"
    return f"the edits teach where to erase; to improve it, {advice(report)}"


def advice(report: dict) -> str:
    """What a person can do next."""
    n, next_ids = report["agreement"]["held-out images"], report[EDIT_NEXT]
    if not next_ids:
        return "look again at the edits; all images have one"
    more = max(FIRST_ROUND - n, n)
    text = f"edit {min(more, len(next_ids))} more images, first {_first(next_ids)}"
    if without := report["classes without an edit"]:
        text += f" (classes without an edit: {_first(without)})"
    return text


def teach_most(part: Part, unedited: np.ndarray, confidence: np.ndarray) -> list[str]:
    """Ids of the images that would teach most: of every class in turn the least certain one, TEACH_MOST.

    Args:
        unedited: positions of the images in `part`.
        confidence: of each of them, [m].
    """
    order = unedited[np.argsort(confidence, kind="stable")]
    labels, turn = part.labels[order], np.zeros(len(order), dtype=int)
    for k in np.unique(labels):
        turn[labels == k] = np.arange((labels == k).sum())
    return [part.ids[i] for i in order[np.argsort(turn, kind="stable")][:TEACH_MOST]]


def _figures(kind: dict) -> str:
    """Precision and recall of a kind, in brackets those of the trivial answer."""
    return (
        f"{kind['recall']:.1%} found ({kind['trivial recall']:.0%}), "
        f"{kind['precision']:.1%} of those named right ({kind['trivial precision']:.1%}), n = {kind['cells']}"
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
