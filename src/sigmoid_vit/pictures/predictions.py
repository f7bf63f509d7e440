"""What a network answers to the images of a part."""

import numpy as np

from sigmoid_vit import plots
from sigmoid_vit.answers import Answers
from sigmoid_vit.pictures.picture import Picture

CONFUSIONS_SHOWN = 20  # named in numbers, where there are more than plots.NAMED classes


def prediction_pictures(answers: Answers, metrics: dict) -> dict[str, Picture]:
    """What `classification_metrics` found, in pictures by name."""
    title, counts = answers.title, metrics["confusion_matrix"]
    classes, mpp, per_class = answers.network.classes, metrics["mpp"], metrics["per_class_accuracy"]
    tops = {name: value for name, value in metrics.items() if name.startswith("top")}
    tops |= {"macro": metrics["macro_accuracy"]}
    true_class = answers.probabilities.gather(1, answers.labels[:, None]).squeeze(1)
    images = [sum(row) for row in counts]
    bins_of_mpp = np.histogram(true_class.double(), plots.BINS, (0, 1))[0].tolist()
    bins, ece = metrics["calibration"], metrics["ece"]
    return {
        "top_k": Picture(plots.top_k(tops, title), {"images": metrics["n"], **tops}),
        "mpp_histogram": Picture(
            plots.mpp_histogram(true_class, mpp, title), {**mpp, "images by bin": bins_of_mpp}
        ),
        "per_class_accuracy": Picture(plots.per_class_accuracy(per_class, images, title), per_class),
        "confusion_matrix": Picture(
            plots.confusion_matrix(counts, classes, title), _confusions(counts, classes)
        ),
        "calibration": Picture(plots.calibration(bins, ece, title), {"ece": ece, **bins}),
    }


def _confusions(counts: list[list[int]], classes: list[str]) -> dict:
    """The rows of a confusion matrix by true class; of a large one the most frequent confusions."""
    if len(classes) <= plots.NAMED:
        return dict(zip(classes, counts, strict=True))
    wrong = np.array(counts)
    np.fill_diagonal(wrong, 0)
    most = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN]
    pairs = [divmod(int(k), len(classes)) for k in most if wrong.flat[k]]
    return {
        f"{classes[true]} taken for {classes[answer]}": int(wrong[true, answer]) for true, answer in pairs
    }
