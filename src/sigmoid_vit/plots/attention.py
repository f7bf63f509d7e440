"""Pictures of attention, always on the scale 0..1."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit.plots.style import style

ATTENTION_COLOURS = "viridis"
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
            row[0].set_ylabel(text, rotation=0, ha="right", va="center")
            for ax, values in zip(row[1:], [heads.mean(0), *heads], strict=True):
                scale = attention_map(ax, values)
            for ax in row:
                ax.set(xticks=[], yticks=[])
        for ax, name in zip(axes[0], shown, strict=True):
            ax.set_title(name)
        figure.colorbar(scale, ax=axes, shrink=min(1, 2 / B), pad=0.01, label="sigmoid attention")
        figure.suptitle(f"{title}\nsigmoid attention of the class token, last block".strip())
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


def attention_map(axes, values: Tensor):
    """Draw attention values [gh, gw] on the fixed scale 0..1; returns the colour scale."""
    values = torch.as_tensor(values).float().numpy()
    return axes.imshow(values, cmap=ATTENTION_COLOURS, vmin=0, vmax=1)
