"""Two networks on the same images: which errors were fixed, which right predictions were broken."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sigmoid_vit.evaluation.paired import Outcomes, difference_text, mcnemar, paired_differences


def compare_predictions(
    before: Tensor, after: Tensor, labels: Tensor, ids: Sequence[str], groups: np.ndarray | None = None
) -> dict:
    """What changed from one network to a later one on the same n images.

    Args:
        before: probabilities float [n, K] of K classes.
        after: the same of the later network.
        labels: int64 [n].
        ids: of the n images.
        groups: int64 [n], which of them belong together; None: each stands alone.

    Returns:
        n; accuracy of the later network ("run") and of the one before ("against") as fractions; ids of the
        errors that were fixed and of the right predictions that were broken, by the gain and by the loss of
        the probability of the true class, largest first; how many images both have right and wrong;
        mcnemar_p; and difference, their `paired_differences`.
    """
    before_right, after_right = before.argmax(1) == labels, after.argmax(1) == labels
    gain = (after - before).gather(1, labels[:, None]).squeeze(1)
    fixed, broken = ~before_right & after_right, before_right & ~after_right
    by_gain = gain.argsort(descending=True, stable=True).tolist()
    by_loss = gain.argsort(stable=True).tolist()
    return {
        "n": len(labels),
        "accuracy": {
            "run": after_right.double().mean().item(),
            "against": before_right.double().mean().item(),
        },
        "fixed": [ids[i] for i in by_gain if fixed[i]],
        "broken": [ids[i] for i in by_loss if broken[i]],
        "both_right": int((before_right & after_right).sum()),
        "both_wrong": int((~before_right & ~after_right).sum()),
        "mcnemar_p": mcnemar(before_right, after_right),
        "difference": paired_differences([Outcomes(before_right, after_right, labels, groups)]),
    }


def comparison_report(change: dict) -> list[str]:
    """What `evaluation.evaluate_run` found against the run before, in three lines for the person."""
    accuracy = change["accuracy"]
    return [
        f"against {change['against']}: accuracy {accuracy['against']:.4f} -> {accuracy['run']:.4f}, "
        f"{len(change['fixed'])} fixed, {len(change['broken'])} broken, "
        f"McNemar's exact p {change['mcnemar_p']:.2g}",
        f"difference: {difference_text(change['difference'])}",
        f"what changed: {change['folder']}",
    ]
