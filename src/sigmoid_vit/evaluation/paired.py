"""Pairs of runs, one a seed, on the same images: the difference of their accuracies, and how sure it is."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from torch import Tensor

from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.folder import Run

RESAMPLES = 2000  # of the bootstrap
LEVEL = 95  # per cent of the resamples within an interval
AT_A_TIME = 100  # resamples, for the memory


@dataclass
class Outcomes:
    """Whether two networks predict the same n images right: bool [n] each, and their labels, int64 [n].

    `groups`, int64 [n] from 0 on, says which images belong together; None: each stands alone.
    """

    before: Tensor
    after: Tensor
    labels: Tensor
    groups: np.ndarray | None = None

    @classmethod
    def of(
        cls, before: Tensor, after: Tensor, labels: Tensor, groups: np.ndarray | None = None
    ) -> "Outcomes":
        """From the probabilities [n, K] of both."""
        return cls(before.argmax(1) == labels, after.argmax(1) == labels, labels, groups)

    @property
    def gain(self) -> np.ndarray:
        """1 where an error was fixed, -1 where a right prediction was broken, else 0: float [n]."""
        return (self.after.double() - self.before.double()).numpy()


def paired_runs(runs: str, against: str | None) -> list[tuple[Run, Run | None]]:
    """The runs of a folder or a quoted pattern, each with the run of the same seed that it is compared with.

    A single run to compare with is that of every pair.

    Raises:
        UserError: a run without a counterpart of its seed, or two of one seed.
    """
    found = _matching(runs)
    others = _matching(against) if against else []
    if len(others) < 2:
        return [(run, others[0] if others else None) for run in found]
    if len(found) == 1:
        raise UserError(f"{against} are {len(others)} runs, but {runs} is one; give a pattern for both")
    seeds = {run.settings().seed: run for run in others}
    missing = [run for run in found if run.settings().seed not in seeds]
    if missing or len(seeds) < len(others):
        what = "has several runs of one seed" if len(seeds) < len(others) else "has no run of its seed"
        raise UserError(f"{(missing or found)[0].folder} cannot be paired: {against} {what}")
    return [(run, seeds[run.settings().seed]) for run in found]


def paired_differences(pairs: Sequence[Outcomes], seed: int = 0) -> dict:
    """How much more the later networks have right, over all pairs, with the interval of a bootstrap.

    Every resample draws images (whole groups of them, where they belong together) and, where there are
    several, pairs, all with replacement. The pairs may have other images only where there is one of them.

    Returns:
        n (images), groups (n, where each image stands alone), pairs, mcnemar_p (of a pair, `mcnemar`; of
        several, twice their mean, which is a valid p-value however they depend on each other), and for top1
        and macro_accuracy: difference (a fraction), low and high (the middle
        LEVEL per cent of the resamples), and by_pair.

    Raises:
        UserError: the pairs hold different images.
    """
    labels, groups = pairs[0].labels.numpy(), pairs[0].groups
    groups = np.arange(len(labels)) if groups is None else groups
    n_groups = groups.max() + 1
    if any(len(pair.labels) != len(labels) or (pair.labels.numpy() != labels).any() for pair in pairs[1:]):
        raise UserError("the pairs hold different images; compare them on one test part with --split")
    gains, one_hot = np.stack([pair.gain for pair in pairs]), np.eye(labels.max() + 1)[labels]
    one_hot = one_hot[:, one_hot.any(0)]
    by_pair = _differences(gains, one_hot, np.ones((1, len(labels))))
    resampled, random = [], np.random.default_rng(seed)
    for _ in range(RESAMPLES // AT_A_TIME):
        images = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), AT_A_TIME)[:, groups]
        chosen = random.integers(len(pairs), size=(AT_A_TIME, len(pairs)))
        of_pairs = _differences(gains, one_hot, images)  # [2, pairs, resamples]
        resampled.append(np.take_along_axis(of_pairs, chosen.T[None], 1).mean(1))
    tail = (100 - LEVEL) / 2
    low, high = np.nanpercentile(np.concatenate(resampled, 1), [tail, 100 - tail], axis=1)
    figures = {
        name: {
            "difference": float(by_pair[k].mean()),
            "low": float(low[k]),
            "high": float(high[k]),
            "by_pair": by_pair[k, :, 0].tolist(),
        }
        for k, name in enumerate(("top1", "macro_accuracy"))
    }
    p = [mcnemar(pair.before, pair.after) for pair in pairs]
    pooled = p[0] if len(p) == 1 else min(1.0, 2 * float(np.mean(p)))
    return {"n": len(labels), "groups": int(n_groups), "pairs": len(pairs), "mcnemar_p": pooled, **figures}


def mcnemar(before_right: Tensor, after_right: Tensor) -> float:
    """p-value of McNemar's exact two-sided test on the same n images, bool [n] each.

    Only the images on which the two disagree count; without any, p is 1.
    """
    fixed = int((~before_right & after_right).sum())
    broken = int((before_right & ~after_right).sum())
    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def difference_text(differences: dict) -> str:
    """The differences in percentage points, with their intervals."""
    figures = (
        f"{name} {100 * d['difference']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
        for name, d in (("top1", differences["top1"]), ("macro", differences["macro_accuracy"]))
    )
    n, groups, pairs = (differences[name] for name in ("n", "groups", "pairs"))
    over = f"{n} images" if groups == n else f"{groups} groups of {n} images"
    text = f"{', '.join(figures)} points ({LEVEL} % bootstrap intervals over {over}"
    if pairs == 1:
        return text + ")"
    return f"{text} and {pairs} pairs); McNemar's exact p, twice the mean: {differences['mcnemar_p']:.2g}"


def _differences(gains: np.ndarray, one_hot: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Differences of top 1 and macro accuracy [2, pairs, r] under r weightings of the images [r, n]."""
    top1 = gains @ weights.T / weights.sum(1)
    with np.errstate(invalid="ignore"):  # a class that a resample lacks does not count
        by_class = [gains @ (weights * c).T / (weights @ c) for c in one_hot.T]
    return np.stack([top1, np.nanmean(by_class, axis=0)])


def _matching(pattern: str) -> list[Run]:
    return [Run(folder) for folder in sorted(glob.glob(str(pattern))) or [pattern]]
