"""Which images Step 2 trains on, and whether edits are injected: being edited must not become the cue."""

from dataclasses import dataclass

import numpy as np
from scipy.stats.contingency import association

from sigmoid_vit.runs.settings import Settings

CUE = 0.5  # share of the largest possible association above which being edited tells the class
RARE = 0.99  # quantile of random groups of images beyond which the classes of a group are no chance


@dataclass
class Plan:
    """How to train on the edits there are."""

    inject: bool
    images: np.ndarray  # positions of the images to train on
    says: str  # the reason, for the person and for config.json


def make_plan(
    settings: Settings,
    labels: np.ndarray,
    has_edit: np.ndarray,
    injected: np.ndarray | None = None,
    by_people: np.ndarray | None = None,
    unchanged: np.ndarray | None = None,
) -> Plan:
    """Decide whether to inject and which images to train on.

    With INJECT=auto, edits are injected only where being injected does not give the class away: a network
    that sees some classes only under injection learns "not injected = another class" and says so of every new
    image. Then the unedited images are left out, if at least half of every class is edited; otherwise all
    images are trained on and attention is aligned alone.

    Args:
        labels: int64 [n].
        has_edit, injected, by_people: bool [n], which images are edited, have cells that injection takes away
            (None: the edited ones), and were edited by a person and not by propagation (None: likewise). What
            people edited counts by itself as well: predicted edits of a class that nobody edited may all
            look alike.
        unchanged: bool [n], which images a person looked at and found nothing to change (None: no image).
            They are trained on like the edited ones, as they are.
    """
    unchanged = np.zeros(len(labels), dtype=bool) if unchanged is None else unchanged
    injected = has_edit if injected is None else injected
    by_people = has_edit if by_people is None else by_people
    edited, kept = np.flatnonzero(has_edit), np.flatnonzero(has_edit | unchanged)
    lost, unedited = np.setdiff1d(labels, labels[kept]), len(labels) - len(kept)
    looked_at = f"the {len(kept) - len(edited)} looked at and left unchanged"
    and_looked_at = f" and {looked_at}" if len(kept) > len(edited) else ""
    dropping = settings.unedited == "drop" and unedited > 0

    def tells_the_class(images: np.ndarray) -> bool:
        its, taken = labels[images], injected[images]
        people = being_edited_is_a_cue(its, taken & by_people[images])
        return max(people, being_edited_is_a_cue(its, taken)) > CUE or groups_differ_in_class(its, taken)

    if dropping and not len(lost):
        images = kept
        says = f"training on the {len(edited)} edited images{and_looked_at}; "
        says += f"{unedited} without an edit are dropped"
    elif dropping:
        images = np.arange(len(labels))
        says = f"classes without an edited image: {len(lost)}, so the unedited images are trained on as well"
    else:
        images = np.arange(len(labels))
        says = f"training on all {len(labels)} images, {len(edited)} of them edited"
    if settings.inject == "false":
        return Plan(False, images, says + "; edits are not injected, attention is aligned alone")
    if not injected.any():
        return Plan(False, images, says + "; no edited cell has a value below 0.5, so nothing is injected")
    if not (dropping and len(lost)) and not tells_the_class(images):
        return Plan(True, images, says + "; edits are injected")
    if settings.inject == "true":
        says += "; WARNING: being edited goes with the class, and INJECT=true injects all the same"
        return Plan(True, images, says)
    half = 2 * np.bincount(labels[edited], minlength=labels.max() + 1) >= np.bincount(labels)
    if half.all() and not tells_the_class(edited):
        says = f"training on the {len(edited)} edited images; "
        says += f"the {len(labels) - len(edited)} without an edit are left out, "
        says += "because being edited goes with the class (INJECT=true trains on them all the same); "
        says += "edits are injected"
        return Plan(True, edited, says)
    says += "; being edited goes with the class, so edits are not injected (INJECT=true forces it)"
    return Plan(False, images, says)


def being_edited_is_a_cue(labels: np.ndarray, has_edit: np.ndarray) -> float:
    """Cramer's V in 0..1 between an image's class and whether it is edited; 0 if all or none are."""
    table = np.stack([np.bincount(labels[has_edit == e], minlength=labels.max() + 1) for e in (False, True)])
    table = table[:, table.sum(0) > 0]
    if min(table.sum(1)) == 0 or table.shape[1] < 2:
        return 0.0
    return float(association(table, method="cramer"))


def groups_differ_in_class(labels: np.ndarray, in_group: np.ndarray) -> bool:
    """Whether the images in a group, or those outside it, are of other classes than all of them together.

    That is so when a group is at least half as far from the class shares of all images as if it were of one
    class, and random groups of its size (seeded) hardly ever are as far: a few scattered images are no cue.
    """
    total, random = np.bincount(labels), np.random.default_rng(0)
    for group in (in_group, ~in_group):
        if 0 < (size := group.sum()) < len(labels):
            own = _distance(np.bincount(labels[group], minlength=len(total))[None], total).item()
            others = _distance(random.multivariate_hypergeometric(total, size, 1000), total)
            if own >= CUE and own > np.quantile(others, RARE) + 1e-9:
                return True
    return False


def _distance(groups: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Total variation distance between the class shares of groups, counts [n, K], and those of all, [K].

    In units of the distance of a group that is of one class alone, the one each has most in excess: [n].
    """
    shares = total / total.sum()
    excess = groups / groups.sum(1, keepdims=True) - shares  # [n, K]
    return excess.clip(min=0).sum(1) / np.maximum(1 - shares[excess.argmax(1)], 1e-9)
