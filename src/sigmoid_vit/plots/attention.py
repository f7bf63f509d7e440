"""Pictures of attention, always on the scale 0..1."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from sigmoid_vit.plots.style import NAME, beside, headed, short, style

ATTENTION_COLOURS = "viridis"
ORANGE = "#d95f02"
ACROSS = 6  # layers or heads side by side
WIDTH, CELL = 7.6, 1.15  # inches of all maps side by side, and of one, with what is around it, at most
ORDERS = {  # of insertion and deletion: name, and how its curve looks
    "sigmoid": ("sigmoid attention, last block", dict(color="#31688e", marker="o", markersize=3)),
    "rollout": ("rollout", dict(color="#d95f02", marker="s", markersize=3)),
    "random": ("random order", dict(color="#777777", linestyle="--")),
}


def attention_grid(
    images: Tensor, maps: Tensor, titles: Sequence[str], title: str = "", looks: str = "class token"
) -> Figure:
    """Per image: the image, the head mean of its sigmoid attention, and every head, ACROSS side by side.

    Args:
        images: uint8 [B, 3, h, w].
        maps: sigmoid attention in 0..1, [B, H, gh, gw].
        titles: B texts, shown left of the images.
        title: of the whole figure.
        looks: the query whose attention it is.
    """
    B, H = maps.shape[:2]
    heads = _in_rows([f"head {h}" for h in range(H)])
    mosaic = [
        [f"image {i}", f"head mean {i}", *(name and f"{name} {i}" for name in row)]
        for i in range(B)
        for row in heads
    ]
    titles, width, height = beside(titles)
    across = 2 + len(heads[0])
    cell = min(CELL, WIDTH / across)
    with style():
        size = cell * across + width + 0.9, B * max((cell + 0.15) * len(heads), height) + 0.6
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplot_mosaic(mosaic, empty_sentinel="")
        for i in range(B):
            axes[f"image {i}"].imshow(images[i].permute(1, 2, 0).numpy())
            axes[f"image {i}"].set_ylabel(titles[i], rotation=0, ha="right", va="center")
            shown = {"head mean": maps[i].mean(0)} | {f"head {h}": maps[i, h] for h in range(H)}
            for name, values in shown.items():
                scale = attention_map(axes[f"{name} {i}"], values)
            for name in ("image", *shown):
                axes[f"{name} {i}"].set(xticks=[], yticks=[], title=name if i == 0 or len(heads) > 1 else "")
        figure.colorbar(
            scale, ax=list(axes.values()), pad=0.01, label="sigmoid attention", shrink=min(1, 3 / size[1])
        )
        headed(figure, f"{title}\nsigmoid attention ({looks}), last block".strip())
    return figure


def attention_layers(
    images: Tensor,
    sigmoid: Tensor,
    softmax: Tensor,
    rollout: Tensor,
    titles: Sequence[str],
    title: str = "",
    looks: str = "class token",
) -> Figure:
    """Per image sigmoid attention of every layer, below it softmax attention, and at the side rollout.

    Layers stand ACROSS side by side. Softmax attention and rollout are shares of a sum over all tokens; each
    such map is divided by its maximum, which stands below it.

    Args:
        images: uint8 [B, 3, h, w].
        sigmoid, softmax: head means of every layer, 0..1 [B, layers, gh, gw].
        rollout: 0..1 [B, gh, gw].
        titles: B texts, shown left of the images.
        title: of the whole figure.
        looks: the query whose attention it is.
    """
    B, L = sigmoid.shape[:2]
    layers = _in_rows([f"layer {k}" for k in range(L)])
    mosaic = [
        [f"image {i}", *(name and f"{kind} {name} {i}" for name in row), f"rollout {i}"]
        for i in range(B)
        for row in layers
        for kind in ("sigmoid", "softmax")
    ]
    titles, width, height = beside(titles)
    ratios = (1.7, *[1] * len(layers[0]), 1.7)
    cell = min(CELL, WIDTH / sum(ratios))
    with style():
        size = cell * sum(ratios) + width + 1, B * max((2 * cell + 0.6) * len(layers), height) + 0.7
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplot_mosaic(mosaic, width_ratios=ratios, empty_sentinel="")
        for i in range(B):
            axes[f"image {i}"].imshow(images[i].permute(1, 2, 0).numpy())
            axes[f"image {i}"].set_ylabel(titles[i], rotation=0, ha="right", va="center")
            scale = _of_maximum(axes[f"rollout {i}"], rollout[i])
            for k in range(L):
                above, below = (axes[f"{kind} layer {k} {i}"] for kind in ("sigmoid", "softmax"))
                attention_map(above, sigmoid[i, k])
                _of_maximum(below, softmax[i, k])
                above.set_title(f"layer {k}" if i == 0 or len(layers) > 1 else "")
                if k % ACROSS == 0:
                    above.set_ylabel("sigmoid")
                    below.set_ylabel("softmax")
        for ax in axes.values():
            ax.set(xticks=[], yticks=[])
        for name in ("image", "rollout"):
            axes[f"{name} 0"].set_title(name)
        label = "sigmoid attention;\nsoftmax and rollout: share of the maximum"
        figure.colorbar(scale, ax=list(axes.values()), pad=0.01, label=label, shrink=min(1, 3 / size[1]))
        headed(figure, f"{title}\nattention ({looks}) in every layer, head mean".strip())
    return figure


def insertion_deletion(faithfulness: dict, title: str = "") -> Figure:
    """The mean curves of `attention_quality.faithfulness`: cells taken away, and cells brought in."""
    with style():
        figure = Figure(figsize=(7, 3.9), layout="constrained")
        for axes, kind, done in zip(
            figure.subplots(1, 2, sharey=True),
            ("deletion", "insertion"),
            ("taken away", "brought in"),
            strict=True,
        ):
            for order, (name, look) in ORDERS.items():
                curve = faithfulness[order][f"{kind}_curve"]
                label = f"{name}: {faithfulness[order][f'{kind}_auc']:.3f}"
                axes.plot(faithfulness["share"], curve, label=label, clip_on=False, **look)
            better = "lower" if kind == "deletion" else "higher"
            axes.set(xlabel=f"share of cells {done}, strongest first", xlim=(0, 1), ylim=(0, 1), title=kind)
            legend = dict(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
            axes.legend(title=f"area under the curve ({better} is better)", **legend)
        figure.axes[0].set_ylabel("probability of the predicted class")
        headed(figure, f"{title}\nmean over {faithfulness['n']} images".strip())
    return figure


def attention_map(axes: Axes, values: Tensor):
    """Draw attention values [gh, gw] on the fixed scale 0..1; returns the colour scale."""
    values = torch.as_tensor(values).float().numpy()
    return axes.imshow(values, cmap=ATTENTION_COLOURS, vmin=0, vmax=1)


def edited_answer(
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
            axes[0].set_xlabel("dotted: the patch that looks")
        figure.colorbar(scale, ax=axes[:3], shrink=0.7, pad=0.01, label="sigmoid attention")
        names = [short(name, NAME) + (" (true)" if k == true else "") for k, name in enumerate(classes)]
        _answer_bars(axes[3], before, after, names)
        headed(figure, title)
    return figure


def _answer_bars(axes: Axes, before: Tensor, after: Tensor, names: Sequence[str]) -> None:
    """Probabilities without and with an edit, a pair of bars per class."""
    for offset, values, look in (
        (-0.2, before, dict(color="0.7", label="without the edit")),
        (0.2, after, dict(color="#31688e", label="with the edit")),
    ):
        axes.barh([k + offset for k in range(len(names))], values.numpy(), 0.4, **look)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1), xlabel="probability", ylim=(len(names) - 0.4, -0.6))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)


def _outline(axes: Axes, cell: Sequence[int], colour: str, **look) -> None:
    """Draw a frame around the cell in this row and column."""
    row, column = cell
    look = dict(facecolor="none", edgecolor=colour, linewidth=1.5, **look)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **look))


def _in_rows(names: Sequence[str]) -> list[list[str]]:
    """Names in rows of at most ACROSS, the last one filled up with "" if there is more than one."""
    across = min(ACROSS, len(names))
    names = [*names, *[""] * (-len(names) % across)]
    return [names[k : k + across] for k in range(0, len(names), across)]


def _of_maximum(axes: Axes, values: Tensor):
    """Draw shares [gh, gw] divided by their maximum, which is written below."""
    axes.set_xlabel(f"max {values.max():.2g}", labelpad=2)
    return attention_map(axes, values / values.max())
