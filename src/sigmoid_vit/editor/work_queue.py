"""Which image comes next: the images of a part, ordered and filtered."""

import re
from dataclasses import dataclass

import numpy as np

from sigmoid_vit.data import Part
from sigmoid_vit.editor.part_edits import PartEdits
from sigmoid_vit.editor.part_predictions import UNKNOWN, PartPredictions
from sigmoid_vit.editor.responses import Refused
from sigmoid_vit.edits.next_images import next_images
from sigmoid_vit.edits.status import STATUSES
from sigmoid_vit.runs import ranking

ORDERS = ("teach", "errors", "mixed", "uncertain", "attention_off", "class", "name")


@dataclass(frozen=True)
class Filter:
    """Which images are listed; every field narrows the list.

    Attributes:
        class_index: their true class.
        search: a part of their names.
        status: one of STATUSES, or "all".
        author: who made their current edits.
        answer: "right" or "wrong"; predicted: their predicted class. Neither holds before it is computed.
    """

    class_index: int | None = None
    search: str = ""
    status: str = "all"
    author: str = ""
    answer: str = "all"
    predicted: int | None = None


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
        to_do = any(edits.status[i] in ("todo", "propagated", "sent_back") for i in named)
        there = {"attention_off": masks, "teach": to_do}
        self.orders = [order for order in ORDERS if there.get(order, True)]
        self._names = [image_id.lower() for image_id in part.ids]
        self._by_name = np.array(sorted(range(len(part)), key=lambda i: _natural(part.ids[i])), dtype=int)

    def page(self, order: str, wanted: Filter, limit: int) -> dict:
        """The images that match, in this order, and how many predictions are there.

        All of them by their numbers ("images") and the letters of their statuses ("statuses"), the first
        `limit` as `items` gives them.
        """
        found = self._matching(self._ordered(order), wanted).tolist()
        return {
            "total": len(found),
            "ready": self.predictions.ready,
            "images": found,
            "statuses": "".join(STATUSES[self.edits.status[i]] for i in found),
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

    def _matching(self, positions: np.ndarray, wanted: Filter) -> np.ndarray:
        labels, prediction = self.part.labels[positions], self.predictions.prediction[positions]
        keep = np.ones(len(positions), dtype=bool)
        if wanted.class_index is not None:
            keep &= labels == wanted.class_index
        if wanted.predicted is not None:
            keep &= prediction == wanted.predicted
        if wanted.answer != "all":
            keep &= (prediction >= 0) & ((prediction == labels) == (wanted.answer == "right"))
        for given, of_images in ((wanted.status, self.edits.status), (wanted.author, self.edits.author)):
            if given not in ("", "all"):
                keep &= np.array([of_images[i] == given for i in positions], dtype=bool)
        if text := wanted.search.lower():
            keep &= np.array([text in self._names[i] for i in positions], dtype=bool)
        return positions[keep]

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


def _natural(name: str) -> list:
    """Sorts 2 before 10."""
    return [int(text) if text.isdecimal() else text for text in re.split(r"(\d+)", name)]
