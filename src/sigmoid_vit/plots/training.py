"""The picture of a training run."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sigmoid_vit.plots.style import headed, style

CURVES = {
    "train": dict(color="#31688e", linestyle="-"),
    "validation": dict(color="#d95f02", linestyle="--"),
}
KEYS = {"loss": ("loss", "val_loss"), "accuracy": ("accuracy", "val_accuracy")}


def learning_curves(history: Sequence[dict], kept: int | None = None, title: str = "") -> Figure:
    """Loss and accuracy of every epoch, on the training and, where there are any, the validation images.

    Args:
        history: a run's log, at least one epoch.
        kept: the epoch whose weights are shown elsewhere; a vertical line marks it.
        title: of the whole figure.
    """
    with style():
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        for axes, (what, keys) in zip(figure.subplots(1, 2), KEYS.items(), strict=True):
            for (name, look), key in zip(CURVES.items(), keys, strict=True):
                points = [(line["epoch"], line[key]) for line in history if key in line]
                if points:
                    marker = "o" if len(points) < 3 else None
                    axes.plot(*zip(*points, strict=True), label=name, marker=marker, clip_on=False, **look)
            if kept is not None:
                axes.axvline(kept, color="0.6", linestyle=":", label=f"epoch {kept}, evaluated")
            axes.set(xlabel="epoch", xlim=(0.5, history[-1]["epoch"] + 0.5))
            axes.set(ylabel=what, ylim=(0, 1) if what == "accuracy" else (0, None))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        headed(figure, title)
    return figure
