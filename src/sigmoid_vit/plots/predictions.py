"""Pictures of predictions: confusion and the probability of the true class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from sigmoid_vit.plots.style import style


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
