"""What changed from one network to the next, and the edits it learned from."""

from collections.abc import Sequence

import numpy as np
import torch

from sigmoid_vit import plots
from sigmoid_vit.answers import Answers, Network, looks
from sigmoid_vit.data import Part
from sigmoid_vit.edit_maps import EditMaps
from sigmoid_vit.errors import UserError
from sigmoid_vit.pictures.picture import Picture
from sigmoid_vit.store import EditStore

EDITS_SHOWN = 6  # training images shown with their edit
PREDICTED_SHOWN = 2  # of these, if there are enough of both kinds, with a predicted edit


def outcomes(change: dict, title: str) -> Picture:
    """What `compare_answers` found: right and wrong before and after, and McNemar's test."""
    counts = {name: len(change[name]) for name in ("fixed", "broken")}
    return Picture(plots.outcomes(change, title), {**change, **counts})


def changed(before: Answers, after: Answers, chosen: list[int], title: str) -> Picture:
    """The images at these positions, of the same part, with the attention and the answers of two networks."""
    texts, who = _change_texts(before, after, chosen), _who_looks(before.network, after.network)
    maps = (answers.attention(chosen).mean(1) for answers in (before, after))
    numbers = _change_numbers(before, after, chosen)
    return Picture(plots.before_after(after.images(chosen), *maps, texts, title, looks=who), numbers)


def edits(after: Network, before: Network | None, train: Part) -> Picture | None:
    """Training images of Step 2 with the edit it learned from, and the attention before and after.

    Given edits first, then predicted ones. None for a run that learned from none.
    """
    if not after.run.edits.exists():
        return None
    maps = EditMaps.read(after.run.edits, train.ids)
    at = _some_edits(maps)
    if not len(at):
        return None
    part, shown = train.subset(at), maps.subset(at)
    networks = [network for network in (before, after) if network]
    answers = [network.answer(network.prepare(part)) for network in networks]
    chosen = list(range(len(at)))
    whose = _whose(after.settings.edits, part.ids, shown)
    old = answers[0] if before else None
    texts = [f"{text}\n{w}" for text, w in zip(_change_texts(old, answers[-1], chosen), whose, strict=True)]
    maps_before = old.attention(chosen).mean(1) if old else None
    images, maps_after = answers[-1].images(chosen), answers[-1].attention(chosen).mean(1)
    title = f"{answers[-1].title}: what it learned from"
    if after.settings.control == "shuffled":
        title += " (control: edits of other images)"
    drawn, who = (shown.value, shown.edited), _who_looks(before, after)
    figure = plots.before_after(images, maps_before, maps_after, texts, title, drawn, who)
    n = int(maps.has_edit.sum())
    counts = {"edited images": n, "predicted": int(maps.predicted[maps.has_edit].sum())}
    counts |= {"edited cells": int(maps.edited.sum()), "images shown": part.ids}
    numbers = _change_numbers(old, answers[-1], chosen)
    del numbers["images"]
    for image_id, w in zip(part.ids, whose, strict=True):
        numbers[image_id]["edit"] = w
    return Picture(figure, counts | numbers)


def _who_looks(before: Network | None, after: Network) -> str:
    """The query whose attention is shown, of both networks where they differ."""
    now = looks(after.model)
    then = looks(before.model) if before else now
    return now if now == then else f"before: {then}, after: {now}"


def _change_texts(before: Answers | None, after: Answers, chosen: list[int]) -> list[str]:
    """Id, answers before and after and the true class of the images at these positions."""
    if before is None:
        return after.texts(chosen)
    part, texts = after.part.part, []
    names = [plots.short(name, plots.NAME) for name in part.classes]
    for i, label in zip(chosen, after.labels[chosen].tolist(), strict=True):
        old, new = before.probabilities[i], after.probabilities[i]
        texts.append(
            f"{part.ids[i]}\n"
            f"before: {names[old.argmax()]} ({old.max():.0%})\n"
            f"after: {names[new.argmax()]} ({new.max():.0%})\n"
            f"true: {names[label]} ({old[label]:.0%} → {new[label]:.0%})"
        )
    return texts


def _change_numbers(before: Answers | None, after: Answers, chosen: list[int]) -> dict:
    """The ids of the images at these positions; for each, the true class and what both networks answer."""
    part, numbers = after.part.part, {"images": [after.part.part.ids[i] for i in chosen]}
    for i in chosen:
        label = int(after.labels[i])
        numbers[part.ids[i]] = {"true": part.classes[label]}
        for when, answers in (("before", before), ("after", after)):
            if answers:
                p = answers.probabilities[i]
                said = {"answer": part.classes[p.argmax()], "probability": p.max()}
                numbers[part.ids[i]][when] = {**said, "probability of true": p[label]}
    return numbers


def _whose(store: str, ids: Sequence[str], maps: EditMaps) -> list[str]:
    """Of every edit, that it was predicted or who made it, as far as it still lies in the store."""
    try:
        with EditStore(store, readonly=True) as opened:
            current = opened.current_all()
    except UserError:  # the store is not there any more
        current = {}
    texts = []
    for image_id, edited, predicted in zip(ids, maps.edited, maps.predicted, strict=True):
        stored = current.get(image_id)
        same = stored and torch.equal(stored.attention_edit().resize(edited.shape).edited[0], edited)
        texts.append("predicted edit" if predicted else f"edit by {stored.author}" if same else "edit")
    return texts


def _some_edits(maps: EditMaps) -> np.ndarray:
    """Positions of EDITS_SHOWN edited images, PREDICTED_SHOWN of them predicted, evenly among all."""
    people, predicted = (np.flatnonzero(maps.has_edit & (maps.predicted == p)) for p in (False, True))
    few = max(min(PREDICTED_SHOWN, len(predicted)), EDITS_SHOWN - len(people))
    return np.concatenate([_evenly(people, EDITS_SHOWN - few), _evenly(predicted, few)])


def _evenly(positions: np.ndarray, count: int) -> np.ndarray:
    count = min(count, len(positions))
    return positions[np.linspace(0, len(positions) - 1, count).round().astype(int)]
