"""What the training of a run looked like."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sigmoid_vit.figures.style import Picture, headed, style
from sigmoid_vit.model.checkpoints import load_checkpoint
from sigmoid_vit.runs.folder import Run

CURVES = {
    "train": dict(color="#31688e", linestyle="-"),
    "validation": dict(color="#d95f02", linestyle="--"),
}
KEYS = {"loss": ("loss", "val_loss"), "accuracy": ("accuracy", "val_accuracy")}


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
    return Picture(draw_learning_curves(history, kept, title), numbers)


def draw_learning_curves(history: Sequence[dict], kept: int | None = None, title: str = "") -> Figure:
    """Loss and accuracy of every epoch, on the training and, where there are any, the validation images.

    Args:
        history: a run's log, at least one epoch.
        kept: the epoch whose weights are shown elsewhere; a vertical line marks it.
        title: of the whole figure.
    """
    with style():
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        for axes, (what, keys) in zip(figure.subplots(1, 2), KEYS.items(), strict=True):
            for (name, drawn_as), key in zip(CURVES.items(), keys, strict=True):
                points = [(line["epoch"], line[key]) for line in history if key in line]
                if points:
                    few = {"marker": "o"} if len(points) < 3 else {}
                    axes.plot(*zip(*points, strict=True), label=name, clip_on=False, **drawn_as, **few)
            if kept is not None:
                axes.axvline(kept, color="0.6", linestyle=":", label=f"epoch {kept}, evaluated")
            axes.set(xlabel="epoch", xlim=(0.5, history[-1]["epoch"] + 0.5))
            axes.set(ylabel=what, ylim=(0, 1) if what == "accuracy" else (0, None))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        headed(figure, title)
    return figure
