"""Figures of a set of predictions, by torchmetrics."""

import math

import torchmetrics.functional.classification as tm
from scipy.stats import binned_statistic
from torch import Tensor

CALIBRATION_BINS = 15  # of equal width, over confidences 0..1


def classification_metrics(probabilities: Tensor, labels: Tensor, classes: list[str]) -> dict:
    """Accuracy and calibration of n predictions over K classes.

    Args:
        probabilities: float [n, K], rows sum to 1.
        labels: int64 [n].
        classes: the K names.

    Returns:
        n; top1 to top5 (as far as there are classes); macro_accuracy over the classes present;
        commonest_class, what its name for every image would get; predicted_classes, how many are; mpp, the
        probability of the true class (mean, max, min); ece, the expected calibration error, and its bins, see
        `calibration_bins`; per_class_accuracy, None for a class without images; confusion_matrix [K][K], rows
        are true classes.
        All are fractions from 0 to 1, the confusion matrix is in images.
    """
    K = len(classes)
    true_class = probabilities.gather(1, labels[:, None]).squeeze(1)
    confusion = tm.multiclass_confusion_matrix(probabilities, labels, K)
    images = confusion.sum(1)
    per_class = (confusion.diag() / images).tolist()  # nan where a class has no images
    present = [a for a in per_class if not math.isnan(a)]
    tops = {
        f"top{k}": tm.multiclass_accuracy(probabilities, labels, K, top_k=k, average="micro").item()
        for k in range(1, min(5, K) + 1)
    }
    return {
        "n": len(labels),
        **tops,
        "macro_accuracy": sum(present) / len(present),
        "commonest_class": {
            "class": classes[int(images.argmax())],
            "top1": (images.max() / images.sum()).item(),
            "macro_accuracy": 1 / len(present),
        },
        "predicted_classes": int((confusion.sum(0) > 0).sum()),
        "mpp": {name: getattr(true_class, name)().item() for name in ("mean", "max", "min")},
        "ece": tm.multiclass_calibration_error(probabilities, labels, K, n_bins=CALIBRATION_BINS).item(),
        "calibration": calibration_bins(probabilities, labels),
        "per_class_accuracy": {
            name: None if math.isnan(accuracy) else accuracy
            for name, accuracy in zip(classes, per_class, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
    }


def calibration_bins(probabilities: Tensor, labels: Tensor) -> dict[str, list]:
    """Mean confidence and accuracy of the predictions by confidence, and how many images there are.

    Lists over CALIBRATION_BINS bins; confidence and accuracy are None in an empty bin.
    """
    confidence, prediction = probabilities.max(dim=1)
    right = (prediction == labels).double()
    means, images = (
        binned_statistic(confidence, [confidence, right], statistic, CALIBRATION_BINS, (0, 1)).statistic
        for statistic in ("mean", "count")
    )
    mean_confidence, accuracy = ([None if math.isnan(x) else x for x in row] for row in means.tolist())
    return {"confidence": mean_confidence, "accuracy": accuracy, "images": images[0].astype(int).tolist()}
