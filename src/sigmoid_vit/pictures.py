"""The pictures of a run: which figure is drawn of what, and the same in numbers.

`evaluation` writes them into the run's folder, `notebook` shows them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit import plots
from sigmoid_vit.answers import Answers, Network, answer_text, looks, sigmoid_attention
from sigmoid_vit.attention_quality import looking_rows
from sigmoid_vit.data import BatchTransform, Part, Prepared
from sigmoid_vit.edit_maps import EditMaps
from sigmoid_vit.edits import AttentionEdit, resolve_indices
from sigmoid_vit.errors import UserError
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.runs import Run
from sigmoid_vit.store import EditStore
from sigmoid_vit.weights import load_checkpoint

LAYERS_SHOWN = 3  # images whose attention is shown in all layers
EDITS_SHOWN = 6  # training images shown with their edit
PREDICTED_SHOWN = 2  # of these, if there are enough of both kinds, with a predicted edit
CLASSES_SHOWN = 5  # with and without an edit
CONFUSIONS_SHOWN = 20  # named in numbers, where there are more than plots.NAMED classes


class Picture(NamedTuple):
    """A figure and what it shows, in numbers: a dictionary that may hold further ones and lists."""

    figure: Figure
    numbers: dict


def learning_curves(run: Run, which: str = "best") -> Picture | None:
    """Loss and accuracy by epoch; None for a run without a log."""
    history = run.history()
    if not history:
        return None
    kept = load_checkpoint(run.folder / f"{which}.pt").get("epoch")
    title = run.folder.resolve().name
    if run.edits.exists():
        title += "\nin training: with the edits, and the alignment with them in the loss"
    keys = ("loss", "val_loss", "accuracy", "val_accuracy")
    evaluated = next((line for line in history if line["epoch"] == kept), history[-1])
    numbers = {
        name: {key: line[key] for key in ("epoch", *keys) if key in line}
        for name, line in (("last epoch", history[-1]), ("epoch evaluated", evaluated))
    }
    numbers |= {
        f"{key} by epoch": [line.get(key) for line in history]
        for key in keys
        if any(key in line for line in history)
    }
    return Picture(plots.learning_curves(history, kept, title), numbers)


def predictions(answers: Answers, metrics: dict) -> dict[str, Picture]:
    """What `classification_metrics` found, in pictures by name."""
    title, counts = answers.title, metrics["confusion_matrix"]
    classes, mpp, per_class = answers.network.classes, metrics["mpp"], metrics["per_class_accuracy"]
    tops = {name: value for name, value in metrics.items() if name.startswith("top")}
    tops |= {"macro": metrics["macro_accuracy"]}
    true_class = answers.probabilities.gather(1, answers.labels[:, None]).squeeze(1)
    images = [sum(row) for row in counts]
    bins_of_mpp = np.histogram(true_class.double(), plots.BINS, (0, 1))[0].tolist()
    bins, ece = metrics["calibration"], metrics["ece"]
    return {
        "top_k": Picture(plots.top_k(tops, title), {"images": metrics["n"], **tops}),
        "mpp_histogram": Picture(
            plots.mpp_histogram(true_class, mpp, title), {**mpp, "images by bin": bins_of_mpp}
        ),
        "per_class_accuracy": Picture(plots.per_class_accuracy(per_class, images, title), per_class),
        "confusion_matrix": Picture(
            plots.confusion_matrix(counts, classes, title), _confusions(counts, classes)
        ),
        "calibration": Picture(plots.calibration(bins, ece, title), {"ece": ece, **bins}),
    }


def _confusions(counts: list[list[int]], classes: list[str]) -> dict:
    """The rows of a confusion matrix by true class; of a large one the most frequent confusions."""
    if len(classes) <= plots.NAMED:
        return dict(zip(classes, counts, strict=True))
    wrong = np.array(counts)
    np.fill_diagonal(wrong, 0)
    most = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    pairs = [divmod(int(k), len(classes)) for k in most if wrong.flat[k]]
    return {
        f"{classes[true]} taken for {classes[answer]}": int(wrong[true, answer]) for true, answer in pairs
    }


def attention_figure(
    model: SigmoidViT,
    part: Prepared,
    transform: BatchTransform,
    chosen: list[int],
    classes: list[str],
    title: str = "",
) -> Figure:
    """The images at these positions with their sigmoid attention, head mean and every head."""
    images, labels, index = next(part.batches([np.array(chosen)]))
    device = next(model.parameters()).device
    class_logits, maps = sigmoid_attention(model, transform(images.to(device), index))
    probabilities = class_logits.float().softmax(dim=1).cpu()
    titles = [
        answer_text(part.part.ids[i], p, label, classes)
        for i, p, label in zip(chosen, probabilities, labels.tolist(), strict=True)
    ]
    return plots.attention_grid(images, maps.cpu(), titles, title, looks(model))


def attention(answers: Answers, chosen: list[int], title: str, in_layers: int | None = None) -> dict:
    """Pictures of the images at these positions: `heads`, every head of the last block; `layers`, all layers.

    Args:
        title: what is shown, behind the name of the run.
        in_layers: how many of the images are shown in all layers; None for all of them.
    """
    network, few = answers.network, chosen[:in_layers]
    title, who = f"{answers.title}: {title}", looks(network.model)
    about = (network.model, answers.part, network.transform, chosen, network.classes, title)
    heads = Picture(attention_figure(*about), _strongest(answers, chosen, answers.attention(chosen)))
    if len(few) < len(chosen):
        title += f", the first {len(few)} of {len(chosen)}"
    views = answers.views(few)
    kinds = (("sigmoid", views.sigmoid), ("softmax", views.softmax))
    figure = plots.attention_layers(answers.images(few), *views, answers.texts(few), title, who)
    numbers = {
        answers.part.part.ids[i]: {f"max of {kind} by layer": maps[k].amax((1, 2)) for kind, maps in kinds}
        for k, i in enumerate(few)
    }
    return {"heads": heads, "layers": Picture(figure, numbers)}


def _strongest(answers: Answers, chosen: list[int], maps: Tensor) -> dict:
    """Where the head mean of maps [B, H, gh, gw] is strongest, beside the answer."""
    numbers = {}
    for i, values in zip(chosen, maps.mean(1), strict=True):
        p, label = answers.probabilities[i], answers.labels[i]
        numbers[answers.part.part.ids[i]] = {
            "answer": answers.network.classes[p.argmax()],
            "probability": p.max(),
            "true": answers.network.classes[label],
            "probability of true": p[label],
            "strongest cell (row, column)": strongest_cell(values),
            "its sigmoid attention": values.max(),
        }
    return numbers


def strongest_cell(values: Tensor) -> tuple[int, int]:
    """Row and column of the largest of the values [gh, gw]; the first of equals."""
    return divmod(int(values.argmax()), values.shape[1])


def faithfulness(answers: Answers, curves: dict) -> Picture:
    """Insertion and deletion, as `attention_quality.faithfulness` returns them."""
    return Picture(plots.insertion_deletion(curves, answers.title), curves)


@torch.no_grad()
def edited_answer(
    answers: Answers,
    i: int,
    edit: AttentionEdit | None = None,
    layer: str | int = "last",
    head: int | None = None,
    query: int | None = None,
) -> Picture:
    """The answer to image i without and with an edit, and the attention of one query before and under it.

    Args:
        edit: of one image and all heads; None removes the cell that the class token looks at most in the
            last block.
        layer: whose attention is shown, and head; None for the mean over the heads.
        query: the patch that looks; None for the class token, or the mean over all patches without one.
    """
    network, x = answers.network, answers.inputs([i])
    model, patches = network.model, slice(network.model.num_prefix_tokens, None)
    row = looking_rows(model) if query is None else slice(patches.start + query, patches.start + query + 1)

    def look(edit: AttentionEdit | None) -> tuple[Tensor, Tensor]:
        class_logits, logits = model.forward_with_attention(x, edit, layer, "all")
        heads = next(iter(logits.values()))[0, :, row, patches].sigmoid().mean(1)  # [H, gh * gw]
        shown = heads.mean(0) if head is None else heads[head]
        return class_logits[0].float().softmax(0).cpu(), shown.unflatten(0, network.grid).cpu()

    edit = erased(answers, i) if edit is None else edit
    (before, own), (after, under) = look(None), look(edit.to(x.device))
    in_force = edit.edited[0] & _reaches(edit, model, layer, query)
    under = torch.where(in_force, edit.value[0].float(), under)
    at = None if query is None else divmod(query, network.grid[1])
    (seen,) = resolve_indices(layer, len(model.blocks), "layer")
    who = looks(model) if at is None else f"patch at row {at[0]}, column {at[1]}"
    about = {
        "image": answers.part.part.ids[i],
        "edit": _edit_text(edit, model),
        "attention shown": f"layer {seen}, {'head mean' if head is None else f'head {head}'}, {who}",
    }
    label = int(answers.labels[i])
    shown = _most_probable(before + after, label)
    classes = [network.classes[k] for k in shown]
    figure = plots.edited_answer(
        answers.images([i])[0],
        own,
        under,
        in_force,
        before[shown],
        after[shown],
        classes,
        true=shown.index(label),
        title="{}: {image}\n{edit}\nattention shown: {attention shown}".format(answers.title, **about),
        query=at,
    )
    answer = {
        name: {"without the edit": before[k], "with the edit": after[k]}
        for name, k in zip(classes, shown, strict=True)
    }
    return Picture(figure, {**about, "true": network.classes[label], "probability": answer})


def _most_probable(p: Tensor, label: int) -> list[int]:
    """The CLASSES_SHOWN classes with most of p [K], the last of them giving way to the true one."""
    order = p.argsort(descending=True)[:CLASSES_SHOWN].tolist()
    return order if label in order else [*order[:-1], label]


def _edit_text(edit: AttentionEdit, model: SigmoidViT) -> str:
    """Which cells of its one image an edit of all heads sets to what, and where it is in force."""
    cells = torch.nonzero(edit.edited[0])
    if not len(cells):
        return "no cell is edited"
    (top, left), (bottom, right) = cells.amin(0).tolist(), cells.amax(0).tolist()
    where = f"{_span('row', top, bottom)}, {_span('column', left, right)}"
    if len(cells) < (bottom - top + 1) * (right - left + 1):
        where = f"{len(cells)} cells within {where}"
    low, high = (f"{value:.3g}" for value in edit.value[0][edit.edited[0]].aminmax())
    layers = resolve_indices(edit.layers, len(model.blocks), "layer")
    some = "all layers" if len(layers) == len(model.blocks) else f"layer {', '.join(map(str, layers))}"
    rows = "all query rows" if edit.queries == "all" else "the class token's row"
    return f"{where} set to {low if low == high else f'{low} to {high}'} in {some}, {rows}"


def _span(what: str, first: int, last: int) -> str:
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def erased(answers: Answers, i: int) -> AttentionEdit:
    """The edit that removes the cell of image i at which the class token looks most in the last block."""
    value = torch.zeros(1, *answers.network.grid)
    edited = torch.zeros_like(value, dtype=torch.bool)
    edited[0][strongest_cell(answers.attention([i])[0].mean(0))] = True
    return AttentionEdit(value, edited)


def _reaches(edit: AttentionEdit, model: SigmoidViT, layer: str | int, query: int | None) -> bool:
    """Whether an edit of all heads changes the attention of this query in this layer."""
    L = len(model.blocks)
    in_layer = set(resolve_indices(layer, L, "layer")) <= set(resolve_indices(edit.layers, L, "layer"))
    return in_layer and (edit.queries == "all" or query is None)


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
