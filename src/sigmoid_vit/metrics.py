"""Figures of a set of predictions, by torchmetrics."""

import math

import torch
import torchmetrics.functional.classification as tm
from torch import Tensor


def classification_metrics(probabilities: Tensor, labels: Tensor, classes: list[str]) -> dict:
    """Accuracy and calibration of n predictions over K classes.

    Args:
        probabilities: float [n, K], rows sum to 1.
        labels: int64 [n].
        classes: the K names.

    Returns:
        n; top1 to top5 (as far as there are classes); macro_accuracy over the classes present; mpp, the
        probability of the true class (mean, max, min); ece, the expected calibration error in 15 bins;
        per_class_accuracy, None for a class without images; confusion_matrix [K][K], rows are true classes.
        All are fractions from 0 to 1, the confusion matrix is in images.
    """
    K = len(classes)
    true_class = probabilities.gather(1, labels[:, None]).squeeze(1)
    confusion = tm.multiclass_confusion_matrix(probabilities, labels, K)
    per_class = (confusion.diag() / confusion.sum(1)).tolist()  # nan where a class has no images
    present = [a for a in per_class if not math.isnan(a)]
    tops = {
        f"top{k}": tm.multiclass_accuracy(probabilities, labels, K, top_k=k, average="micro").item()
        for k in range(1, min(5, K) + 1)
    }
    return {
        "n": len(labels),
        **tops,
        "macro_accuracy": sum(present) / len(present),
        "mpp": {name: getattr(true_class, name)().item() for name in ("mean", "max", "min")},
        "ece": tm.multiclass_calibration_error(probabilities, labels, K, n_bins=15).item(),
        "per_class_accuracy": {
            name: None if math.isnan(accuracy) else accuracy
            for name, accuracy in zip(classes, per_class, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
    }


def confident_errors(probabilities: Tensor, labels: Tensor, count: int) -> list[int]:
    """Positions of the wrong predictions, the most confident first; at most `count`."""
    confidence, prediction = probabilities.max(dim=1)
    wrong = torch.nonzero(prediction != labels).squeeze(1)
    return wrong[confidence[wrong].argsort(descending=True, stable=True)][:count].tolist()
