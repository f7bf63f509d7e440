"""How right a network is: accuracy, confusion, the probability of the true class, and calibration."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde
from torch import Tensor

from sigmoid_vit.figures.style import COLUMN, Picture, columns, headed, short, style
from sigmoid_vit.runs.network import Predictions

BLUE, ORANGE = "#31688e", "#d95f02"
NAMED = 30  # more classes than these are not all named
WORST = 20  # classes named then
BINS = 20  # of the histogram
CONFUSIONS_SHOWN = 20  # named in numbers, where there are more than NAMED classes
BANDWIDTH = 0.05  # of the density: standard deviation of its kernel


def classification_pictures(predictions: Predictions, metrics: dict) -> dict[str, Picture]:
    """What `classification_metrics` found, in pictures by name."""
    title, counts = predictions.title, metrics["confusion_matrix"]
    classes, mpp, per_class = predictions.network.classes, metrics["mpp"], metrics["per_class_accuracy"]
    tops = {name: value for name, value in metrics.items() if name.startswith("top")}
    tops |= {"macro": metrics["macro_accuracy"]}
    true_class = predictions.probabilities.gather(1, predictions.labels[:, None]).squeeze(1)
    images = [sum(row) for row in counts]
    bins_of_mpp = np.histogram(true_class.double(), BINS, (0, 1))[0].tolist()
    bins, ece = metrics["calibration"], metrics["ece"]
    return {
        "top_k": Picture(draw_top_k(tops, title), {"images": metrics["n"], **tops}),
        "mpp_histogram": Picture(
            draw_mpp_histogram(true_class, mpp, title), {**mpp, "images by bin": bins_of_mpp}
        ),
        "per_class_accuracy": Picture(draw_per_class_accuracy(per_class, images, title), per_class),
        "confusion_matrix": Picture(
            draw_confusion_matrix(counts, classes, title), _confusions(counts, classes)
        ),
        "calibration": Picture(draw_calibration(bins, ece, title), {"ece": ece, **bins}),
    }


def _confusions(counts: list[list[int]], classes: list[str]) -> dict:
    """The rows of a confusion matrix by true class; of a large one the most frequent confusions."""
    if len(classes) <= NAMED:
        return dict(zip(classes, counts, strict=True))
    wrong = np.array(counts)
    np.fill_diagonal(wrong, 0)
    most = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    pairs = [divmod(int(k), len(classes)) for k in most if wrong.flat[k]]
    return {
        f"{classes[true]} taken for {classes[predicted]}": int(wrong[true, predicted])
        for true, predicted in pairs
    }


def draw_top_k(accuracies: dict[str, float], title: str = "") -> Figure:
    """Accuracies in 0..1 by name, such as top1 to top5 and macro, as bars."""
    with style():
        figure = Figure(figsize=(4.5, 0.3 * len(accuracies) + 0.9), layout="constrained")
        axes = figure.subplots()
        _bars(axes, list(accuracies), list(accuracies.values()))
        axes.set(xlabel="accuracy")
        headed(figure, title)
    return figure


def draw_per_class_accuracy(
    accuracy: dict[str, float | None], images: Sequence[int], title: str = ""
) -> Figure:
    """The accuracy of every class; of more than NAMED classes the WORST ones by name, and all as a curve.

    Args:
        accuracy: by class name, in 0..1, None for a class without images.
        images: how many each class has.
        title: of the whole figure.
    """
    names = [f"{short(name)} ({n})" for name, n in zip(accuracy, images, strict=True)]
    values = [np.nan if a is None else a for a in accuracy.values()]
    many = len(names) > NAMED
    worst_first = np.argsort(values, kind="stable")  # nan last
    shown = worst_first[:WORST] if many else np.arange(len(names))
    with style():
        figure = Figure(figsize=(8 if many else 5, 0.2 * len(shown) + 1.2), layout="constrained")
        axes, *more = np.atleast_1d(figure.subplots(1, 1 + many))
        _bars(axes, [names[i] for i in shown], [values[i] for i in shown])
        axes.set(xlabel="accuracy", ylabel="class (images)", title=f"the worst {WORST}" if many else "")
        for ax in more:
            ax.plot(np.arange(1, len(names) + 1), np.asarray(values)[worst_first], color=BLUE, clip_on=False)
            ax.set(xlabel="classes, the worst first", ylabel="accuracy", ylim=(0, 1), xlim=(1, len(names)))
            ax.set_title(f"all {len(names)} classes")
        headed(figure, title)
    return figure


def draw_confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str = "") -> Figure:
    """Images by true class (rows) and predicted class (columns), coloured by the share of the true class."""
    counts = np.asarray(counts)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    K = len(classes)
    names = [short(name) for name in classes] if K <= NAMED else []
    longest = max(map(columns, names), default=3)  # else the classes' numbers
    upright = longest <= 2
    cells, beside = min(max(0.45 * K, 2), 8), COLUMN * longest  # inches
    with style():
        size = (cells + beside + 1.5, cells + 1 + (0 if upright else beside))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the true class")
        number = "" if names else " (number of the class, from 0)"
        axes.set(xlabel=f"predicted{number}", ylabel=f"true{number}")
        if names:
            axes.set_xticks(range(K), names, rotation=0 if upright else 90)
            axes.set_yticks(range(K), names)
        if K <= 20:
            for i, j in np.ndindex(K, K):
                colour = "black" if share[i, j] > 0.5 else "white"
                axes.text(j, i, counts[i, j], ha="center", va="center", color=colour)
        headed(figure, title)
    return figure


def draw_mpp_histogram(true_class: Tensor, mpp: dict[str, float], title: str = "") -> Figure:
    """Histogram and density of the probability of the true class, [n] in 0..1; mean, max and min.

    The density is a kernel estimate in images per bin, mirrored at 0 and 1 so that none of it lies outside.
    """
    values = true_class.double().numpy()
    with style():
        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.hist(values, bins=np.linspace(0, 1, BINS + 1), color=BLUE, alpha=0.6, label="images")
        if len(values) > 2 and values.std() > 1e-6:  # of equal values there is no density
            x = np.linspace(0, 1, 201)
            estimate = gaussian_kde(values, BANDWIDTH / values.std(ddof=1))
            density = estimate(x) + estimate(-x) + estimate(2 - x)
            axes.plot(x, density * len(values) / BINS, color="#440154", label="density")
        axes.axvline(mpp["mean"], color=ORANGE, linestyle="--", label=f"mean {mpp['mean']:.3f}")
        axes.plot([], [], " ", label=f"max {mpp['max']:.3f}, min {mpp['min']:.3f}")
        axes.set(xlabel="probability of the true class", ylabel="images", xlim=(0, 1), ylim=(0, None))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        headed(figure, title)
    return figure


def draw_calibration(bins: dict[str, list], ece: float, title: str = "") -> Figure:
    """Accuracy by confidence, and how many images there are at each; on the diagonal both agree.

    Args:
        bins: as `metrics.calibration_bins` returns them.
        ece: the expected calibration error, 0..1.
        title: of the whole figure.
    """
    n = sum(bins["images"])
    points = [
        (confidence, accuracy, 8 + 150 * images / n)  # the area of a point grows with its images
        for confidence, accuracy, images in zip(*bins.values(), strict=True)
        if images
    ]
    edges = np.linspace(0, 1, len(bins["images"]) + 1)
    with style():
        figure = Figure(figsize=(4, 4.7), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect calibration")
        confidence, accuracy, area = zip(*points, strict=True)
        above.plot(confidence, accuracy, color=BLUE, linewidth=0.8)
        above.scatter(confidence, accuracy, area, BLUE, clip_on=False, zorder=3, label=f"ECE {ece:.3f}")
        above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        below.stairs(bins["images"], edges, fill=True, color=BLUE, alpha=0.6)
        below.set(xlabel="confidence: probability of the predicted class", ylabel="images")
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        headed(figure, title)
    return figure


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float]) -> None:
    """Horizontal bars on 0..1, the first on top, with their values; nan is a class without images."""
    axes.barh(range(len(names)), np.nan_to_num(values), color=BLUE)
    for i, value in enumerate(values):
        text = "no images" if np.isnan(value) else f"{value:.3f}"
        axes.text(1.02, i, text, va="center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
