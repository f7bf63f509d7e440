"""Pictures: every figure is a function that returns a matplotlib Figure; `save` writes it as PNG and PDF.

Colours are even to the eye and safe for the colour-blind (cividis, viridis); attention is shown on 0..1.
"""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from sigmoid_vit.files import write_atomically

ATTENTION_COLOURS = "viridis"


def style():
    """A matplotlib context in which Japanese names render: IPAexGothic stands behind the usual font."""
    if "IPAexGothic" not in font_manager.get_font_names():
        # importing the package would change matplotlib's fonts for the whole process
        package = Path(find_spec("matplotlib_fontja").origin).parent
        font_manager.fontManager.addfont(package / "fonts" / "ipaexg.ttf")
    return rc_context({"font.family": ["DejaVu Sans", "IPAexGothic"], "font.size": 8})


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.pdf."""
    with style():
        for suffix in (".png", ".pdf"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], dpi=150)
            write_atomically(path.with_suffix(suffix), lambda file, data=buffer: file.write(data.getvalue()))


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str = "") -> Figure:
    """Images by true class (rows) and predicted class (columns), coloured by the share of the true class."""
    counts = np.asarray(counts)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    K = len(classes)
    side = min(max(0.45 * K + 1.6, 3.5), 11)
    with style():
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
        axes.set(xlabel="predicted", ylabel="true", title=title)
        if K <= 30:
            axes.set_xticks(range(K), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
            axes.set_yticks(range(K), classes)
        if K <= 20:
            for i, j in np.ndindex(K, K):
                colour = "black" if share[i, j] > 0.5 else "white"
                axes.text(j, i, counts[i, j], ha="center", va="center", color=colour)
    return figure


def mpp_histogram(true_class: Tensor, mpp: dict[str, float], title: str = "") -> Figure:
    """Histogram of the probability of the true class, [n] in 0..1, with its mean."""
    with style():
        figure = Figure(figsize=(4.5, 3), layout="constrained")
        axes = figure.subplots()
        axes.hist(true_class.numpy(), bins=np.linspace(0, 1, 21), color="#31688e")
        axes.axvline(mpp["mean"], color="#d95f02", label=f"mean {mpp['mean']:.3f}")
        axes.set(xlabel="probability of the true class", ylabel="images", xlim=(0, 1), title=title)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper center")
    return figure


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


def attention_map(axes, values: Tensor):
    """Draw attention values [gh, gw] on the fixed scale 0..1; returns the colour scale."""
    values = torch.as_tensor(values).float().numpy()
    return axes.imshow(values, cmap=ATTENTION_COLOURS, vmin=0, vmax=1)
