"""Settings that cannot work, and networks that have learned nothing, said in a sentence."""

import numpy as np

from sigmoid_vit.data import Part
from sigmoid_vit.runs.settings import Settings


def few_updates(updates_per_epoch: int, n: int, settings: Settings) -> str:
    """A warning where an epoch over n images changes the network only once; "" otherwise."""
    if updates_per_epoch > 1:
        return ""
    return (
        f"warning: BATCH_SIZE {settings.batch_size} takes all {n} training images at once, so the network "
        f"changes only {settings.epochs} times in {settings.epochs} epochs, which is hardly ever enough; "
        f"lower BATCH_SIZE, to {max(1, min(32, n // 10))} for example"
    )


def majority_classifier(accuracy: float, val: Part) -> str:
    """A warning where the validation accuracy is what one answer for all images would get; "" otherwise."""
    counts = np.bincount(val.labels)
    commonest = counts.max() / counts.sum()
    if accuracy > commonest + 1e-9:
        return ""
    return (
        f"warning: validation accuracy {accuracy:.4f} is no more than {val.classes[counts.argmax()]!r} for "
        f"every image would get ({commonest:.4f}), so the network is no better than a majority classifier; "
        "give it published weights, more EPOCHS, a smaller BATCH_SIZE or another LR (docs/own_images.md)"
    )
