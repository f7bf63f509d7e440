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

    def page(
        self, order: str, class_index: int | None, search: str, status: str, after: int | None, limit: int
    ) -> dict:
        """How many images match, how far the work has come, and at most `limit` of the matching images.

        They are the first ones, or the first ones behind image `after`, which need not match (any more): so
        no image is missed when others stop matching while a person works down the list.
        """
        positions = self._ordered(order).tolist()
        first = positions.index(after) + 1 if after in positions else 0
        search = search.lower()

        def matches(i: int) -> bool:
            is_class = class_index is None or self.part.labels[i] == class_index
            return is_class and status in ("all", self.edits.status[i]) and search in self._names[i]

        found = [place for place, i in enumerate(positions) if matches(i)]
        return {
            "total": len(found),
            "ready": self.predictions.ready,
            "progress": self._progress(),
            "items": [self.item(positions[place]) for place in found if place >= first][:limit],
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
