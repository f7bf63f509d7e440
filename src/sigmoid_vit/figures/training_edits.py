"""Training images with the edits that Step 2 learned from, and what decided before and after it."""

from collections.abc import Sequence

import numpy as np
import torch

from sigmoid_vit.data import Part
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.edits.store import EditStore
from sigmoid_vit.errors import UserError
from sigmoid_vit.figures.captions import change_numbers, change_texts, query_names
from sigmoid_vit.figures.style import Picture
from sigmoid_vit.figures.two_runs import Maps, draw_before_after
from sigmoid_vit.runs.network import Network
from sigmoid_vit.runs.settings import CONTROLS

EDITS_SHOWN = 6  # training images shown with their edit
PROPAGATED_SHOWN = 2  # of these, if there are enough of both kinds, with a propagated edit


def training_edits(after: Network, before: Network | None, train: Part) -> Picture | None:
    """Training images of Step 2 with the edit it learned from, and what decided before and after.

    Edits by people first, then propagated ones. None for a run that learned from none.
    """
    if not after.run.edits.exists():
        return None
    maps = EditMaps.read(after.run.edits, train.ids)
    at = shown_edits(maps)
    if not len(at):
        return None
    part, shown = train.subset(at), maps.subset(at)
    now = after.predict(after.prepare(part))
    then = before.predict(before.prepare(part)) if before else None
    chosen = list(range(len(at)))
    whose = _whose(after.settings.edits, part.ids, shown)
    texts = [f"{text}\n{w}" for text, w in zip(change_texts(then, now, chosen), whose, strict=True)]
    title = f"{now.title}: what it learned from"
    if after.settings.control != "none":
        title += f" (control: {CONTROLS[after.settings.control]})"
    figure = draw_before_after(
        now.images(chosen),
        Maps.of(then, chosen) if then else None,
        Maps.of(now, chosen),
        texts,
        title,
        (shown.value, shown.edited),
        query_names(before, after),
    )
    counts = {
        "edited images": int(maps.has_edit.sum()),
        "propagated": int(maps.propagated[maps.has_edit].sum()),
        "edited cells": int(maps.edited.sum()),
        "images shown": part.ids,
    }
    numbers = change_numbers(then, now, chosen)
    for image_id, w in zip(part.ids, whose, strict=True):
        numbers[image_id]["edit"] = w
    return Picture(figure, counts | numbers)


def _whose(store: str, ids: Sequence[str], maps: EditMaps) -> list[str]:
    """Of every edit, that it was propagated or who made it, as far as it still lies in the store."""
    try:
        with EditStore(store, readonly=True) as opened:
            current = opened.current_all()
    except UserError:  # the store is not there any more
        current = {}
    texts = []
    for image_id, edited, propagated in zip(ids, maps.edited, maps.propagated, strict=True):
        stored = current.get(image_id)
        same = stored and torch.equal(stored.on_grid(tuple(edited.shape))[1], edited)
        texts.append("propagated edit" if propagated else f"edit by {stored.author}" if same else "edit")
    return texts


def shown_edits(maps: EditMaps) -> np.ndarray:
    """Positions of EDITS_SHOWN edited images, PROPAGATED_SHOWN of them propagated, evenly among all."""
    people, propagated = (np.flatnonzero(maps.has_edit & (maps.propagated == p)) for p in (False, True))
    few = max(min(PROPAGATED_SHOWN, len(propagated)), EDITS_SHOWN - len(people))
    return np.concatenate([_evenly(people, EDITS_SHOWN - few), _evenly(propagated, few)])


def _evenly(positions: np.ndarray, count: int) -> np.ndarray:
    count = min(count, len(positions))
    return positions[np.linspace(0, len(positions) - 1, count).round().astype(int)]
