"""Which predictions to look at first: the most confident errors, the surest hits, the least sure ones."""

from collections import Counter

import numpy as np


def confident_errors(prediction: np.ndarray, confidence: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions of the wrong predictions, the most confident first; of equals the first.

    Args:
        prediction, labels: class numbers [n]; a negative prediction is not known yet and counts as no error.
        confidence: probability of the predicted class [n].
    """
    return highest_first(confidence, (prediction >= 0) & (prediction != labels))


def surest_hits(prediction: np.ndarray, confidence: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions of the right predictions: the most confident of each class, then the second ones, and so on.

    Of equal rank the most confident first.
    """
    by_confidence = highest_first(confidence, prediction == labels)
    seen, rank = Counter(), []
    for label in labels[by_confidence].tolist():
        rank.append(seen[label])
        seen[label] += 1
    return by_confidence[np.argsort(rank, kind="stable")]


def least_sure(prediction: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """All positions, those of the lowest confidence first; those not predicted yet (negative) at the end."""
    return np.argsort(np.where(prediction >= 0, confidence, np.inf), kind="stable")


def highest_first(score: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Positions where `which`, bool [n], is true, the highest score first; of equals the first."""
    there = np.flatnonzero(which)
    return there[np.argsort(-score[there], kind="stable")]
