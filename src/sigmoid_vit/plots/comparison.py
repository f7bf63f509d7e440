"""Pictures of what changed between two networks, with the edit that was to change it."""

import textwrap
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit.plots.attention import attention_map
from sigmoid_vit.plots.style import style

LINE = 46  # characters of a text beside a row


def before_after(
    images: Tensor,
    before: Tensor,
    after: Tensor,
    texts: Sequence[str],
    title: str = "",
    edits: tuple[Tensor, Tensor] | None = None,
) -> Figure:
    """A row per image: the image, its attention before and after, and between them the edit, if given.

    Args:
        images: uint8 [B, 3, h, w].
        before: sigmoid attention in 0..1, [B, gh, gw].
        after: the same of the later network; its grid may be another.
        texts: B texts, shown left of the rows.
        title: of the whole figure.
        edits: value in 0..1 [B, gh, gw] and edited, bool [B, gh, gw]; cells that are not edited are hatched.
    """
    B, names = len(images), ["image", "attention before", "attention after"]
    if edits is not None:
        names.insert(2, "edit")
    texts = ["\n".join(textwrap.fill(line, LINE) for line in text.splitlines()) for text in texts]
    beside = max(len(line) for text in texts for line in text.splitlines())  # characters
    with style():
        size = (1.45 * len(names) + 0.06 * beside + 0.7, 1.45 * B + 0.8)
        figure = Figure(figsize=size, layout="compressed")
        axes = figure.subplots(B, len(names), squeeze=False)
        for i, row in enumerate(axes):
            row[0].imshow(images[i].permute(1, 2, 0).cpu().numpy())
            row[0].set_ylabel(texts[i], rotation=0, ha="right", va="center")
            scale = attention_map(row[1], before[i])
            attention_map(row[-1], after[i])
            if edits is not None:
                _edit_map(row[2], edits[0][i], edits[1][i])
            for ax in row:
                ax.set(xticks=[], yticks=[])
        for ax, name in zip(axes[0], names, strict=True):
            ax.set_title(name)
        figure.colorbar(scale, ax=axes, shrink=min(1, 2 / B), pad=0.01, label="sigmoid attention")
        lines = [*title.splitlines(), "sigmoid attention of the class token, last block, head mean"]
        lines += ["hatched cells are not edited"] * (edits is not None)
        figure.suptitle("\n".join(textwrap.fill(line, int(12 * size[0])) for line in lines))
    return figure


def _edit_map(axes: Axes, value: Tensor, edited: Tensor) -> None:
    """Edited values [gh, gw] on the scale 0..1; where `edited` is False, the hatched ground shows."""
    axes.patch.set(facecolor="0.9", edgecolor="0.6", hatch="////")
    attention_map(axes, value.masked_fill(~edited, torch.nan))
