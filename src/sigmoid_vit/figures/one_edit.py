"""What one edit does to the attention and the prediction of one image."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from sigmoid_vit.figures.attention_maps import attention_map, strongest_cell
from sigmoid_vit.figures.style import NAME, Picture, headed, short, style
from sigmoid_vit.model.edit import AttentionEdit, resolve_indices
from sigmoid_vit.model.readout import query_name, sigmoid_attention
from sigmoid_vit.model.vit import EditableViT
from sigmoid_vit.runs.network import Predictions

CLASSES_SHOWN = 5  # with and without an edit
ORANGE = "#d95f02"


@torch.no_grad()
def edit_effect(
    predictions: Predictions,
    i: int,
    edit: AttentionEdit | None = None,
    layer: str | int = "last",
    head: int | None = None,
    query: int | None = None,
) -> Picture:
    """The prediction for image i without and with an edit, and the attention of one query in both.

    Args:
        edit: of one image and all heads; None removes the cell that decides most.
        layer: whose attention is shown, and head; None for the mean over the heads.
        query: the patch whose attention is shown; None for the class token, or the mean over all patches.
    """
    network, x = predictions.network, predictions.inputs([i])
    model = network.model

    def one_pass(edit: AttentionEdit | None) -> tuple[Tensor, Tensor]:
        class_logits, maps = sigmoid_attention(model, x, layer, query, edit)
        shown = maps[0].mean(0) if head is None else maps[0, head]
        return class_logits[0].float().softmax(0).cpu(), shown.cpu()

    edit = erased(predictions, i) if edit is None else edit
    (before, own), (after, under) = one_pass(None), one_pass(edit.to(x.device))
    in_force = edit.edited[0] & _reaches(edit, model, layer, query)
    under = torch.where(in_force, edit.value[0].float(), under)
    at = None if query is None else divmod(query, network.grid[1])
    (seen,) = resolve_indices(layer, model.depth, "layer")
    whose = query_name(model) if at is None else f"patch at row {at[0]}, column {at[1]}"
    about = {
        "image": predictions.part.part.ids[i],
        "edit": _edit_text(edit, model),
        "attention shown": f"layer {seen}, {'head mean' if head is None else f'head {head}'}, {whose}",
    }
    label = int(predictions.labels[i])
    shown = _most_probable(before + after, label)
    classes = [network.classes[k] for k in shown]
    figure = draw_edit_effect(
        predictions.images([i])[0],
        own,
        under,
        in_force,
        before[shown],
        after[shown],
        classes,
        true=shown.index(label),
        title="{}: {image}\n{edit}\nattention shown: {attention shown}".format(predictions.title, **about),
        query=at,
    )
    probability = {
        name: {"without the edit": before[k], "with the edit": after[k]}
        for name, k in zip(classes, shown, strict=True)
    }
    return Picture(figure, {**about, "true": network.classes[label], "probability": probability})


def _most_probable(p: Tensor, label: int) -> list[int]:
    """The CLASSES_SHOWN classes with most of p [K], the last of them giving way to the true one."""
    order = p.argsort(descending=True)[:CLASSES_SHOWN].tolist()
    return order if label in order else [*order[:-1], label]


def _edit_text(edit: AttentionEdit, model: EditableViT) -> str:
    """Which cells of its one image an edit of all heads sets to what, and where it is in force."""
    cells = torch.nonzero(edit.edited[0])
    if not len(cells):
        return "no cell is edited"
    (top, left), (bottom, right) = cells.amin(0).tolist(), cells.amax(0).tolist()
    where = f"{_span('row', top, bottom)}, {_span('column', left, right)}"
    if len(cells) < (bottom - top + 1) * (right - left + 1):
        where = f"{len(cells)} cells within {where}"
    low, high = (f"{value:.3g}" for value in edit.value[0][edit.edited[0]].aminmax())
    layers = resolve_indices(edit.layers, model.depth, "layer")
    some = "all layers" if len(layers) == model.depth else f"layer {', '.join(map(str, layers))}"
    rows = "all query rows" if edit.queries == "all" else "the class token's row"
    return f"{where} set to {low if low == high else f'{low} to {high}'} in {some}, {rows}"


def _span(what: str, first: int, last: int) -> str:
    return f"{what} {first}" if first == last else f"{what}s {first} to {last}"


def erased(predictions: Predictions, i: int) -> AttentionEdit:
    """The edit that removes the cell of image i that decides most, by the decision map."""
    value = torch.zeros(1, *predictions.network.grid)
    edited = torch.zeros_like(value, dtype=torch.bool)
    edited[0][strongest_cell(predictions.decision_maps([i])[0])] = True
    return AttentionEdit(value, edited)


def _reaches(edit: AttentionEdit, model: EditableViT, layer: str | int, query: int | None) -> bool:
    """Whether an edit of all heads changes the attention of this query in this layer."""
    L = model.depth
    in_layer = set(resolve_indices(layer, L, "layer")) <= set(resolve_indices(edit.layers, L, "layer"))
    return in_layer and (edit.queries == "all" or query is None)


def draw_edit_effect(
    image: Tensor,
    own: Tensor,
    with_edit: Tensor,
    edited: Tensor,
    before: Tensor,
    after: Tensor,
    classes: Sequence[str],
    true: int | None = None,
    title: str = "",
    query: tuple[int, int] | None = None,
) -> Figure:
    """One image, its attention as it is and under an edit, and the probabilities without and with the edit.

    Args:
        image: uint8 [3, h, w].
        own, with_edit: sigmoid attention in 0..1 [gh, gw].
        edited: bool [gh, gw]; these cells are outlined.
        before, after: probabilities [k] of the k classes that are shown.
        classes: their names.
        true: which of them is the true class.
        title: of the whole figure.
        query: row and column of the patch whose attention it is; None for no single patch.
    """
    with style():
        figure = Figure(figsize=(9.5, 2.7), layout="constrained")
        axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
        (gh, gw), (h, w) = own.shape, image.shape[1:]
        cells = (-0.5, gw - 0.5, gh - 0.5, -0.5)  # the image in the maps' coordinates
        axes[0].imshow(image.permute(1, 2, 0).numpy(), extent=cells, aspect=h * gw / (w * gh))
        attention_map(axes[1], own)
        scale = attention_map(axes[2], with_edit)
        for cell in torch.nonzero(edited).tolist():
            _outline(axes[2], cell, ORANGE)
        names = ("image", "its own attention", "edited (outlined)" if edited.any() else "under the edit")
        for ax, name in zip(axes, names, strict=False):
            ax.set(xticks=[], yticks=[], title=name)
            if query:
                _outline(ax, query, "black")
                _outline(ax, query, "white", linestyle=":")
        if query:
            axes[0].set_xlabel("dotted: the patch whose attention it is")
        figure.colorbar(scale, ax=axes[:3], shrink=0.7, pad=0.01, label="sigmoid attention")
        names = [short(name, NAME) + (" (true)" if k == true else "") for k, name in enumerate(classes)]
        _probability_bars(axes[3], before, after, names)
        headed(figure, title)
    return figure


def _probability_bars(axes: Axes, before: Tensor, after: Tensor, names: Sequence[str]) -> None:
    """Probabilities without and with an edit, a pair of bars per class."""
    for offset, values, drawn_as in (
        (-0.2, before, dict(color="0.7", label="without the edit")),
        (0.2, after, dict(color="#31688e", label="with the edit")),
    ):
        axes.barh([k + offset for k in range(len(names))], values.numpy(), 0.4, **drawn_as)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1), xlabel="probability", ylim=(len(names) - 0.4, -0.6))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)


def _outline(axes: Axes, cell: Sequence[int], colour: str, **drawn_as) -> None:
    """Draw a frame around the cell in this row and column."""
    row, column = cell
    drawn_as = dict(facecolor="none", edgecolor=colour, linewidth=1.5, **drawn_as)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **drawn_as))
