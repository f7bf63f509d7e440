"""Which image comes next: the images of a part, ordered and filtered."""

import re
from collections import Counter

import numpy as np

from sigmoid_vit.data import Part
from sigmoid_vit.editor.part_edits import STATUSES, PartEdits
from sigmoid_vit.editor.part_predictions import UNKNOWN, PartPredictions
from sigmoid_vit.editor.responses import Refused
from sigmoid_vit.edits.next_images import next_images
from sigmoid_vit.runs import ranking

ORDERS = ("teach", "errors", "mixed", "uncertain", "attention_off", "class", "name")


class WorkQueue:
    """The images of a part in the order a person wants to see them.

    Orders: "teach", those alone that the last propagation named, whose edits would teach most, where one of
    them is still to do; "errors", the misclassified, most confident first; "mixed", the true classes in turn,
    at random within each, since edits that shall teach how to edit the others need all of them; "uncertain",
    all, least confident first, those not yet predicted at the end; "attention_off", those with a mask, most
    attention outside it first; "class", by true class and name; "name", with numbers in names by their size.
    """

    def __init__(self, part: Part, predictions: PartPredictions, edits: PartEdits, masks: bool) -> None:
        self.part, self.predictions, self.edits = part, predictions, edits
        position = {image_id: i for i, image_id in enumerate(part.ids)}
        named = [position[i] for i in next_images(edits.store.path) if i in position]
        self._teach = np.array(named, dtype=int)
        to_do = any(edits.status[i] in ("todo", "propagated") for i in named)
        there = {"attention_off": masks, "teach": to_do}
        self.orders = [order for order in ORDERS if there.get(order, True)]
        self._names = [image_id.lower() for image_id in part.ids]
        self._by_name = np.array(sorted(range(len(part)), key=lambda i: _natural(part.ids[i])), dtype=int)

    def page(self, order: str, class_index: int | None, search: str, status: str, limit: int) -> dict:
        """How far the work has come, and the images that match, in this order.

        All of them by their numbers ("images") and the first letters of their statuses ("statuses"), the
        first `limit` as `items` gives them.
        """
        found = self._matching(self._ordered(order), class_index, search.lower(), status)
        return {
            "total": len(found),
            "ready": self.predictions.ready,
            "progress": self._progress(),
            "images": found,
            "statuses": "".join(self.edits.status[i][0] for i in found),
            "items": self.items(found[:limit]),
        }

    def items(self, images: list[int]) -> list[dict]:
        """What a row of the list says of each of these images, besides its status."""
        return [self._item(i) for i in images]

    def _item(self, i: int) -> dict:
        p = self.predictions
        known = p.prediction[i] >= 0
        return {
            "k": i,
            "id": self.part.ids[i],
            "label": int(self.part.labels[i]),
            "prediction": int(p.prediction[i]) if known else None,
            "confidence": float(p.confidence[i]) if known else None,
        }

    def _matching(
        self, positions: np.ndarray, class_index: int | None, search: str, status: str
    ) -> list[int]:
        if class_index is not None:
            positions = positions[self.part.labels[positions] == class_index]
        found = positions.tolist()
        if status != "all":
            found = [i for i in found if self.edits.status[i] == status]
        return [i for i in found if search in self._names[i]] if search else found

    def _ordered(self, order: str) -> np.ndarray:
        p, every = self.predictions, self._by_name
        if order not in self.orders:
            raise Refused(400, f"there is no order {order!r}; the orders are {', '.join(self.orders)}")
        prediction, confidence, outside = p.prediction[every], p.confidence[every], p.outside[every]
        if order == "teach":
            return self._teach
        if order == "errors":
            return every[ranking.confident_errors(prediction, confidence, self.part.labels[every])]
        if order == "uncertain":
            return every[ranking.least_sure(prediction, confidence)]
        if order == "attention_off":
            return every[ranking.highest_first(outside, (prediction != UNKNOWN) & ~np.isnan(outside))]
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
