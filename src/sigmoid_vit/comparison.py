"""Two runs on the same images: which errors were fixed, which answers were broken, and where both look."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scipy.stats import binomtest
from torch import Tensor

from sigmoid_vit import pictures, plots
from sigmoid_vit.answers import Network
from sigmoid_vit.data import Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.runs import Run, open_data, write_json


def mcnemar(before_right: Tensor, after_right: Tensor) -> float:
    """p-value of McNemar's exact two-sided test on the same n images, bool [n] each.

    Only the images on which the two disagree count; without any, p is 1.
    """
    fixed = int((~before_right & after_right).sum())
    broken = int((before_right & ~after_right).sum())
    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def compare_answers(before: Tensor, after: Tensor, labels: Tensor, ids: Sequence[str]) -> dict:
    """What changed from one network to a later one on the same n images.

    Args:
        before: probabilities float [n, K] of K classes.
        after: the same of the later network.
        labels: int64 [n].
        ids: of the n images.

    Returns:
        n; accuracy of the later network ("run") and of the one before ("against") as fractions; ids of the
        errors that were fixed and of the right answers that were broken, by the gain and by the loss of the
        probability of the true class, largest first; how many images both have right and wrong; mcnemar_p.
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
    }


def compare_runs(
    folder: str | Path,
    against: str | Path,
    split: str | None = None,
    which: str = "best",
    dataset_path: str | None = None,
    batch_size: int | None = None,
    shown: int = 6,
) -> dict:
    """Compare a run with the run before it on the same images; the result goes into its folder.

    Args:
        folder: the run after, such as Step 2; it says where the data set is and how precise to compute.
        against: the run before, such as Step 1. Its network and image size may be others.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        which: "best" or "last" checkpoint, of both.
        dataset_path: where the data set is now, if it was moved.
        shown: how many fixed and how many broken images to picture.

    Returns:
        The content of comparison.json (see `compare_answers`), and the folder the files went to:
        against_<name of the run before>, beside the figures of the run.

    Raises:
        UserError: the runs have another data set or other classes, or their parts hold other images.
    """
    run, run_before = Run(folder), Run(against)
    check_comparable(run, run_before)
    part, default = common_part(run, run_before, split, dataset_path)
    network = Network(run, which)
    former = Network(run_before, which, network.accelerator)
    after, before = (n.answer(n.prepare(part), batch_size) for n in (network, former))
    part = after.part.part  # without files that were dropped
    result = {"run": network.name, "against": former.name, "split": part.name, "checkpoint": which}
    result |= compare_answers(before.probabilities, after.probabilities, after.labels, part.ids)
    out = run.evaluation(part.name, default, which) / f"against_{former.name}"
    write_json(out / "comparison.json", result)
    title = f"{after.title} against {former.name}"
    for name, change in (("fixed", "gain"), ("broken", "loss")):
        for old in out.glob(f"{name}.p*"):  # of an earlier comparison
            old.unlink()
        if chosen := [part.ids.index(image_id) for image_id in result[name][:shown]]:
            order = f"{len(result[name])} {name}, largest {change} first"
            plots.save(pictures.changed(before, after, chosen, f"{title}\n{order}").figure, out / name)
    return {**result, "folder": str(out)}


def comparison_report(change: dict) -> str:
    """What `compare_runs` found, in two lines for the person."""
    accuracy = change["accuracy"]
    return (
        f"against {change['against']}: accuracy {accuracy['against']:.4f} -> {accuracy['run']:.4f}, "
        f"{len(change['fixed'])} fixed, {len(change['broken'])} broken, "
        f"McNemar's exact p {change['mcnemar_p']:.2g}\nwhat changed: {change['folder']}"
    )


def check_comparable(run: Run, before: Run) -> None:
    """Refuse two runs that are one, or that have other data sets or classes."""
    if run.folder.resolve() == before.folder.resolve():
        raise UserError(f"{run.folder} is compared with itself; give another run with --against")
    sets = run.settings().dataset, before.settings().dataset
    if sets[0] != sets[1]:
        raise UserError(
            f"{run.folder} was trained on {sets[0]} but {before.folder} on {sets[1]}; "
            "only runs on the same data set can be compared"
        )
    if run.classes != before.classes:
        raise UserError(
            f"{run.folder} and {before.folder} were trained on different classes; "
            "only runs on the same data set can be compared"
        )


def common_part(run: Run, before: Run, split: str | None, dataset_path: str | None) -> tuple[Part, str]:
    """The part of `run`'s data set on which both are compared, and the name of the default part."""
    s, data = before.settings(), run.open_data(dataset_path)
    split = split or data.default_part
    same = replace(run.settings(), seed=s.seed, val_fraction=s.val_fraction)  # the same images, cut as before
    part = data.part(split)
    if part.ids != open_data(same, dataset_path).part(split).ids:
        raise UserError(
            f"the {split} parts of {run.folder} and {before.folder} hold different images, because "
            "their SEED or VAL_FRACTION differ; compare them on a test part with --split"
        )
    return part, data.default_part
