"""Two runs on the same images: which errors were fixed, which answers were broken, and where both look."""

from collections.abc import Sequence
from dataclasses import replace

from scipy.stats import binomtest
from torch import Tensor

from sigmoid_vit import pictures
from sigmoid_vit.answers import Answers, Network
from sigmoid_vit.data import DataModule, Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.pictures import Picture
from sigmoid_vit.runs import Run, open_data


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


def changed_images(before: Answers, after: Answers, change: dict, shown: int) -> dict[str, Picture | None]:
    """Pictures of at most so many `fixed` and `broken` images that `compare_answers` found; None of none."""
    ids, drawn = after.part.part.ids, {}
    for name, order in (("fixed", "gain"), ("broken", "loss")):
        chosen = [ids.index(image_id) for image_id in change[name][:shown]]
        title = f"{after.title} against {before.network.name}"
        title += f"\n{len(change[name])} {name}, largest {order} first"
        drawn[name] = pictures.changed(before, after, chosen, title) if chosen else None
    return drawn


def comparison_report(change: dict) -> list[str]:
    """What `evaluation.evaluate_run` found against the run before, in two lines for the person."""
    accuracy = change["accuracy"]
    return [
        f"against {change['against']}: accuracy {accuracy['against']:.4f} -> {accuracy['run']:.4f}, "
        f"{len(change['fixed'])} fixed, {len(change['broken'])} broken, "
        f"McNemar's exact p {change['mcnemar_p']:.2g}",
        f"what changed: {change['folder']}",
    ]


def open_networks(
    run: Run,
    before: Run | None = None,
    split: str | None = None,
    which: str = "best",
    dataset_path: str | None = None,
) -> tuple[DataModule, Part, Network, Network | None]:
    """Open a run, and the run before it where there is one, to be asked about the same images.

    Args:
        run: the run after, such as Step 2; it says where the data set is and how precise to compute.
        before: the run before, such as Step 1. Its network and image size may be others.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        which: "best" or "last" checkpoint, of both.
        dataset_path: where the data set is now, if it was moved.

    Returns:
        The data set of `run`, the part, and the two networks; nothing is predicted yet.

    Raises:
        UserError: there is no such run, data set or part; or the runs have another data set or other classes,
            or their parts hold other images.
    """
    for opened, option in ((run, "--run (RESULT_DIR"), (before, "--against (COMPARE_WITH")):
        if opened:
            check_trained(opened, which, f"{option} in the notebook)")
    if before:
        check_comparable(run, before)
    data = run.open_data(dataset_path)
    part = data.part(split or data.default_part)
    if before:
        check_same_images(part, run, before, dataset_path)
    network = Network(run, which)
    former = Network(before, which, network.accelerator) if before else None
    return data, part, network, former


def check_trained(run: Run, which: str, option: str) -> None:
    """Refuse a run without the checkpoint; `option` is what gives another run."""
    if run.config.is_file() and not (run.folder / f"{which}.pt").is_file():
        raise UserError(
            f"{run.folder} has no {which}.pt: none of its epochs has ended, or the file was moved; "
            f"train it on with RESUME=true, or give another run with {option}"
        )


def check_comparable(run: Run, before: Run) -> None:
    """Refuse two runs that are one, or that have other data sets or classes."""
    if run.folder.resolve() == before.folder.resolve():
        raise UserError(
            f"{run.folder} is compared with itself; give another run with --against "
            "(COMPARE_WITH in the notebook)"
        )
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


def check_same_images(part: Part, run: Run, before: Run, dataset_path: str | None) -> None:
    """Refuse a part of `run`'s data set that holds other images where it is cut as for the run before."""
    cut = before.settings()
    same = replace(run.settings(), seed=cut.cut_seed, split_seed=-1, val_fraction=cut.val_fraction)
    if part.ids != open_data(same, dataset_path).part(part.name).ids:
        raise UserError(
            f"the {part.name} parts of {run.folder} and {before.folder} hold different images, because "
            "their SEED or VAL_FRACTION differ; compare them on a test part with --split "
            "(SPLIT in the notebook)"
        )
