"""What a report says: plain values, lists and pictures for the template, a function for each of its parts."""

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from scipy.stats import binomtest

from sigmoid_vit.data import Part
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.next_images import next_images
from sigmoid_vit.errors import UserError
from sigmoid_vit.evaluation.comparison import compare_predictions
from sigmoid_vit.evaluation.metrics import classification_metrics
from sigmoid_vit.figures.attention_maps import strongest_cell
from sigmoid_vit.figures.decisions import CLASSES_SHOWN, Decided, decisions, most_bound
from sigmoid_vit.figures.training_edits import shown_edits
from sigmoid_vit.report.pictures import decision_uri, edit_uri, image_uri
from sigmoid_vit.runs.network import Predictions
from sigmoid_vit.runs.ranking import least_sure
from sigmoid_vit.runs.settings import CONTROLS

PAIRS = 10  # confusions in the table


def summary(p: Predictions) -> dict:
    """How right the network is, with the 95 % interval of its accuracy, beside the commonest class."""
    found = classification_metrics(p.probabilities, p.labels, p.network.classes)
    right = round(found["top1"] * found["n"])
    interval = binomtest(right, found["n"]).proportion_ci(method="wilson")
    return {
        **{
            key: found[key] for key in ("n", "top1", "macro_accuracy", "predicted_classes", "commonest_class")
        },
        "right": right,
        "low": interval.low,
        "high": interval.high,
        "checkpoint": p.network.which,
        "part": p.part.part.name,
        "seen": p.network.settings.seen(p.part.part.name, p.network.which),
        "date": f"{datetime.now():%Y-%m-%d}",
    }


def errors(p: Predictions, count: int) -> dict:
    """The most frequent confusions, and the most confident errors with what decided."""
    predicted, labels = p.classes_and_confidence()[0], p.labels.numpy()
    K = len(p.network.classes)
    counts = np.bincount(labels * K + predicted, minlength=K * K).reshape(K, K)
    of_class = counts.sum(1)
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [
        {
            "true": p.network.classes[i],
            "answer": p.network.classes[j],
            "n": int(wrong[i, j]),
            "of": int(of_class[i]),
        }
        for i, j in (divmod(int(k), K) for k in order)
        if wrong[i, j]
    ]
    return {"n": int(wrong.sum()), "pairs": pairs, "cards": cards(p, p.confident_errors(count))}


def cards(p: Predictions, chosen: Sequence[int]) -> list[dict]:
    """Images with what the network answers, and what decides."""
    if not len(chosen):
        return []
    chosen, found = list(chosen), []
    for i, image, effect in zip(chosen, p.images(chosen), p.decision_maps(chosen), strict=True):
        row, column = strongest_cell(effect)
        probability = float(p.probabilities[i].max())
        found.append(
            {
                "id": p.part.part.ids[i],
                "true": p.network.classes[int(p.labels[i])],
                "answer": p.network.classes[int(p.probabilities[i].argmax())],
                "probability": probability,
                "row": row,
                "column": column,
                "without": min(1.0, probability * math.exp(-float(effect.max()))),
                "image": image_uri(image),
                "map": decision_uri(effect),
            }
        )
    return found


def decided(p: Predictions, count: int) -> dict:
    """Which cells decide on average: of all images, by predicted class, and by confusion."""
    by_class, by_pair = decisions(p, count)
    by_class = [by_class[0], *most_bound(by_class[1:])[:CLASSES_SHOWN]]
    exact = p.network.erases_every_cell
    return {"exact": exact, "by_class": _groups(p, by_class), "by_pair": _groups(p, by_pair)}


def _groups(p: Predictions, groups: Sequence[Decided]) -> list[dict]:
    return [
        {
            "name": group.name,
            **group.numbers(),
            "image": image_uri(p.images(group.positions).float().mean(0)),
            "map": decision_uri(group.maps.mean(0)),
        }
        for group in groups
    ]


def change(before: Predictions, after: Predictions, count: int) -> dict:
    """What changed from one network to a later one, with fixed and broken images before and after."""
    ids = after.part.part.ids
    found = compare_predictions(before.probabilities, after.probabilities, after.labels, ids, after.groups)
    shown = {}
    for name in ("fixed", "broken"):
        chosen = [ids.index(image_id) for image_id in found[name][:count]]
        shown[name] = list(zip(cards(before, chosen), cards(after, chosen), strict=True))
    return {**found, "before": before.network.name, "after": after.network.name, "shown": shown}


def edits(p: Predictions, train: Part) -> dict | None:
    """What Step 2 learned from: how many images of each class were edited, by whom, and some of the edits."""
    network, run = p.network, p.network.run
    if not run.edits.exists():
        return None
    maps = EditMaps.read(run.edits, train.ids)
    has, propagated = maps.has_edit, maps.has_edit & maps.propagated
    if not has.any():
        return None
    by_class = [
        {
            "name": name,
            "images": int((train.labels == k).sum()),
            "people": int((has & ~propagated)[train.labels == k].sum()),
            "propagated": int(propagated[train.labels == k].sum()),
        }
        for k, name in enumerate(network.classes)
    ]
    at = shown_edits(maps)
    pixels = network.prepare(train.subset(at)).pixels(list(range(len(at))))
    shown = [
        {
            "id": train.ids[i],
            "true": network.classes[train.labels[i]],
            "propagated": bool(maps.propagated[i]),
            "image": image_uri(image),
            "map": edit_uri(maps.value[i], maps.edited[i]),
        }
        for i, image in zip(at.tolist(), pixels, strict=True)
    ]
    total = {key: sum(row[key] for row in by_class) for key in ("images", "people", "propagated")}
    control = "" if network.settings.control == "none" else CONTROLS[network.settings.control]
    erased = float(maps.erased[has].float().mean())
    return {"by_class": by_class, "shown": shown, "erased": erased, "control": control, **total}


def look_at_next(p: Predictions, count: int) -> dict:
    """The images of the part that the network is least sure of, and those that propagation asks for."""
    store = p.network.settings.edits
    try:
        asked = next_images(store)[: 2 * count] if store else []
    except UserError:  # the report of a propagation that was moved or damaged
        asked = []
    chosen = least_sure(*p.classes_and_confidence())[:count].tolist()
    return {"unsure": cards(p, chosen), "teach": asked, "store": store or "my_edits.sqlite"}
