"""Pictures of attention, always on the scale 0..1."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from sigmoid_vit.plots.style import short, style, wrapped

ATTENTION_COLOURS = "viridis"
LINE = 40  # characters of a text beside a row
ORDERS = {  # of insertion and deletion: name, and how its curve looks
    "sigmoid": ("sigmoid attention, last block", dict(color="#31688e", marker="o", markersize=3)),
    "rollout": ("rollout", dict(color="#d95f02", marker="s", markersize=3)),
    "random": ("random order", dict(color="#777777", linestyle="--")),
}


def attention_grid(images: Tensor, maps: Tensor, titles: Sequence[str], title: str = "") -> Figure:
    """A row per image: the image, the head mean of its sigmoid attention, and every head.

    Args:
        images: uint8 [B, 3, h, w].
        maps: sigmoid attention in 0..1, [B, H, gh, gw].
        titles: B texts, shown left of the rows.
        title: of the whole figure.
    """
    B, H = maps.shape[:2]
    shown = ["image", "head mean", *(f"head {h}" for h in range(H))]
    with style():
        figure = Figure(figsize=(1.3 * len(shown) + 2.2, 1.35 * B + 0.5), layout="constrained")
        axes = figure.subplots(B, len(shown), squeeze=False)
        for row, image, heads, text in zip(axes, images, maps, titles, strict=True):
            row[0].imshow(image.permute(1, 2, 0).numpy())
            row[0].set_ylabel(wrapped(text, LINE), rotation=0, ha="right", va="center")
            for ax, values in zip(row[1:], [heads.mean(0), *heads], strict=True):
                scale = attention_map(ax, values)
            for ax in row:
                ax.set(xticks=[], yticks=[])
        for ax, name in zip(axes[0], shown, strict=True):
            ax.set_title(name)
        figure.colorbar(scale, ax=axes, shrink=min(1, 2 / B), pad=0.01, label="sigmoid attention")
        figure.suptitle(f"{title}\nsigmoid attention of the class token, last block".strip())
    return figure


def attention_layers(
    images: Tensor, sigmoid: Tensor, softmax: Tensor, rollout: Tensor, titles: Sequence[str], title: str = ""
) -> Figure:
    """Per image sigmoid attention of every layer, below it softmax attention, and at the side rollout.

    Softmax attention and rollout are shares of a sum over all tokens; each such map is divided by its
    maximum, which stands below it.

    Args:
        images: uint8 [B, 3, h, w].
        sigmoid, softmax: head means of every layer, 0..1 [B, layers, gh, gw].
        rollout: 0..1 [B, gh, gw].
        titles: B texts, shown left of the images.
        title: of the whole figure.
    """
    B, L = sigmoid.shape[:2]
    rows = [(i, kind) for i in range(B) for kind in ("sigmoid", "softmax")]
    mosaic = [[f"image {i}", *(f"{kind} {i} {k}" for k in range(L)), f"rollout {i}"] for i, kind in rows]
    titles = [wrapped(text, LINE) for text in titles]
    beside = max(len(line) for text in titles for line in text.splitlines())  # characters
    with style():
        figure = Figure(figsize=(1.05 * (L + 4) + 0.06 * beside + 0.8, 2.45 * B + 0.7), layout="constrained")
        axes = figure.subplot_mosaic(mosaic, width_ratios=(2, *[1] * L, 2))
        for i in range(B):
            axes[f"image {i}"].imshow(images[i].permute(1, 2, 0).numpy())
            axes[f"image {i}"].set_ylabel(titles[i], rotation=0, ha="right", va="center")
            scale = _of_maximum(axes[f"rollout {i}"], rollout[i])
            for k in range(L):
                attention_map(axes[f"sigmoid {i} {k}"], sigmoid[i, k])
                _of_maximum(axes[f"softmax {i} {k}"], softmax[i, k])
            for kind in ("sigmoid", "softmax"):
                axes[f"{kind} {i} 0"].set_ylabel(kind)
        for ax in axes.values():
            ax.set(xticks=[], yticks=[])
        for name in ("image", "rollout"):
            axes[f"{name} 0"].set_title(name)
        for k in range(L):
            axes[f"sigmoid 0 {k}"].set_title(f"layer {k}")
        label = "sigmoid attention;\nsoftmax and rollout: share of the maximum"
        figure.colorbar(scale, ax=list(axes.values()), shrink=min(1, 2 / B), pad=0.01, label=label)
        figure.suptitle(f"{title}\nattention of the class token in every layer, head mean".strip())
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
        figure.suptitle(f"{title}\nmean over {faithfulness['n']} images".strip())
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
    label: int,
    title: str = "",
    shown: int = 5,
) -> Figure:
    """One image, its attention as it is and under an edit, and the probabilities without and with the edit.

    Args:
        image: uint8 [3, h, w].
        own, with_edit: sigmoid attention in 0..1 [gh, gw].
        edited: bool [gh, gw]; these cells are outlined.
        before, after: probabilities [K] of the K classes.
        label: the true class.
        title: of the whole figure.
        shown: how many classes have bars; those with most before and after, and the true one.
    """
    with style():
        figure = Figure(figsize=(9.5, 2.7), layout="constrained")
        axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
        axes[0].imshow(image.permute(1, 2, 0).numpy())
        attention_map(axes[1], own)
        scale = attention_map(axes[2], with_edit)
        _outline(axes[2], edited)
        names = ("image", "its own attention", "edited (outlined)")
        for ax, name in zip(axes, names, strict=False):
            ax.set(xticks=[], yticks=[], title=name)
        figure.colorbar(scale, ax=axes[:3], shrink=0.7, pad=0.01, label="sigmoid attention")
        order = (before + after).argsort(descending=True)[:shown].tolist()
        order = order if label in order else [*order[:-1], label]
        names = [short(classes[k], 20) + (" (true)" if k == label else "") for k in order]
        _answer_bars(axes[3], before[order], after[order], names)
        figure.suptitle(title)
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


def _outline(axes: Axes, cells: Tensor) -> None:
    """Draw a frame around each of the cells, bool [gh, gw]."""
    look = dict(facecolor="none", edgecolor="#d95f02", linewidth=1.5)
    for row, column in torch.nonzero(cells).tolist():
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **look))


def _of_maximum(axes: Axes, values: Tensor):
    """Draw shares [gh, gw] divided by their maximum, which is written below."""
    axes.set_xlabel(f"max {values.max():.2g}", labelpad=2)
    return attention_map(axes, values / values.max())
