"""Which image comes next: the images of a part, ordered and filtered."""

import re
from collections import Counter

import numpy as np

from sigmoid_vit.data import Part
from sigmoid_vit.editor.answers import Refused
from sigmoid_vit.editor.predictions import UNKNOWN, SplitPredictions
from sigmoid_vit.editor.split_edits import STATUSES, SplitEdits

ORDERS = ("errors", "mixed", "uncertain", "attention_off", "class", "name")


class WorkQueue:
    """The images of a part in the order a person wants to see them.

    Orders: "errors", the misclassified, most confident first; "mixed", the true classes in turn, at random
    within each, since edits that shall teach how to edit the others need all of them; "uncertain", all,
    least confident first, those not yet predicted at the end; "attention_off", those with a mask, most
    attention outside it first;
    "class", by true class and name; "name", with numbers in names by their size.
    """

    def __init__(self, part: Part, predictions: SplitPredictions, edits: SplitEdits, masks: bool) -> None:
        self.part, self.predictions, self.edits = part, predictions, edits
        self.orders = [order for order in ORDERS if masks or order != "attention_off"]
        self._names = [image_id.lower() for image_id in part.ids]
        self._by_name = np.array(sorted(range(len(part)), key=lambda i: _natural(part.ids[i])), dtype=int)

    def page(
        self, order: str, class_index: int | None, search: str, status: str, offset: int, limit: int
    ) -> dict:
        """The matching images from `offset` on, at most `limit`, and how far the work has come."""
        positions = self._ordered(order)
        if class_index is not None:
            positions = positions[self.part.labels[positions] == class_index]
        if status != "all":
            positions = [i for i in positions if self.edits.status[i] == status]
        if search:
            positions = [i for i in positions if search.lower() in self._names[i]]
        return {
            "total": len(positions),
            "ready": self.predictions.ready,
            "progress": self._progress(),
            "items": [self.item(int(i)) for i in positions[offset : offset + limit]],
        }

    def item(self, i: int) -> dict:
        """One image of the queue."""
        p = self.predictions
        known = p.prediction[i] >= 0
        return {
            "k": i,
            "id": self.part.ids[i],
            "label": int(self.part.labels[i]),
            "prediction": int(p.prediction[i]) if known else None,
            "confidence": float(p.confidence[i]) if known else None,
            "p_true": float(p.p_true[i]) if known else None,
            "status": self.edits.status[i],
        }

    def _ordered(self, order: str) -> np.ndarray:
        p, every = self.predictions, self._by_name
        if order not in self.orders:
            raise Refused(400, f"there is no order {order!r}; the orders are {', '.join(self.orders)}")
        if order == "errors":
            wrong = every[(p.prediction[every] >= 0) & (p.prediction[every] != self.part.labels[every])]
            return wrong[np.argsort(-p.confidence[wrong], kind="stable")]
        if order == "uncertain":
            confidence = np.where(p.prediction[every] >= 0, p.confidence[every], np.inf)
            return every[np.argsort(confidence, kind="stable")]
        if order == "attention_off":
            off = every[(p.prediction[every] != UNKNOWN) & ~np.isnan(p.outside[every])]
            return off[np.argsort(-p.outside[off], kind="stable")]
        labels = self.part.labels
        if order == "mixed":
            shuffled = np.random.default_rng(0).permutation(every)
            by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
            counts = np.bincount(labels)
            turn = np.concatenate([np.arange(count) for count in counts])  # within each class
            return by_class[np.argsort(turn, kind="stable")]
        return every if order == "name" else every[np.argsort(labels[every], kind="stable")]

    def _progress(self) -> dict[str, int]:
        counts = Counter(self.edits.status)
        return {"images": len(self.part)} | {name: counts[name] for name in STATUSES if name != "todo"}


def _natural(name: str) -> list:
    """Sorts 2 before 10."""
    return [int(text) if text.isdecimal() else text for text in re.split(r"(\d+)", name)]
