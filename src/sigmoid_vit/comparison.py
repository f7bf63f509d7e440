"""Two runs on the same images: which errors were fixed, which answers were broken, and where both look."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor

from sigmoid_vit import plots
from sigmoid_vit.data import BatchTransform, Part, Prepared
from sigmoid_vit.errors import UserError
from sigmoid_vit.evaluation import sigmoid_attention
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.prediction import predict
from sigmoid_vit.runs import Run, data_config, make_accelerator, open_data, write_json


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
    _check_comparable(run, run_before)
    part, default = _common_part(run, run_before, split, dataset_path)
    accelerator = make_accelerator(run.settings())
    after, before = (_answers(r, which, part, batch_size, accelerator) for r in (run, run_before))
    part = after.part.part  # without files that were dropped
    result = {"run": after.name, "against": before.name, "split": part.name, "checkpoint": which}
    result |= compare_answers(
        before.probabilities, after.probabilities, torch.from_numpy(part.labels), part.ids
    )
    out = run.evaluation(part.name, default, which) / f"against_{before.name}"
    write_json(out / "comparison.json", result)
    title = f"{after.name} against {before.name}, {part.name}"
    title += "" if which == "best" else f", {which} epoch"
    for name, change in (("fixed", "gain"), ("broken", "loss")):
        for old in out.glob(f"{name}.p*"):  # of an earlier comparison
            old.unlink()
        if chosen := [part.ids.index(image_id) for image_id in result[name][:shown]]:
            order = f"{len(result[name])} {name}, largest {change} first"
            plots.save(_figure(before, after, chosen, f"{title}\n{order}"), out / name)
    return {**result, "folder": str(out)}


def comparison_report(change: dict) -> str:
    """What `compare_runs` found, in two lines for the person."""
    accuracy = change["accuracy"]
    return (
        f"against {change['against']}: accuracy {accuracy['against']:.4f} -> {accuracy['run']:.4f}, "
        f"{len(change['fixed'])} fixed, {len(change['broken'])} broken, "
        f"McNemar's exact p {change['mcnemar_p']:.2g}\nwhat changed: {change['folder']}"
    )


@dataclass
class _Answers:
    """What the network of a run answers to the images of a part, and what it takes to look into it."""

    name: str
    model: SigmoidViT
    part: Prepared
    transform: BatchTransform
    probabilities: Tensor  # float32 [n, K]

    def attention(self, chosen: list[int]) -> Tensor:
        """Head mean of the class token's sigmoid attention in the last block, 0..1 [B, gh, gw]."""
        images, _, index = next(self.part.batches([np.array(chosen)]))
        device = next(self.model.parameters()).device
        return sigmoid_attention(self.model, self.transform(images.to(device), index))[1].mean(1).cpu()


def _answers(run: Run, which: str, part: Part, batch_size: int | None, accelerator: Accelerator) -> _Answers:
    s, model = run.settings(), run.load_model(which).to(accelerator.device)
    size, config = (s.img_size, s.img_size), data_config(model)
    prepared = part.prepare(size, s.cache_gib, s.workers, config["interpolation"])
    transform = BatchTransform(size, **config)
    logits, _ = predict(model, prepared, transform, batch_size or min(s.batch_size, 256), accelerator)
    return _Answers(run.folder.resolve().name, model, prepared, transform, logits.softmax(1))


def _check_comparable(run: Run, before: Run) -> None:
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


def _common_part(run: Run, before: Run, split: str | None, dataset_path: str | None) -> tuple[Part, str]:
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


def _figure(before: _Answers, after: _Answers, chosen: list[int], title: str) -> Figure:
    images, labels, _ = next(after.part.batches([np.array(chosen)]))
    part, texts = after.part.part, []
    for i, label in zip(chosen, labels.tolist(), strict=True):
        old, new = before.probabilities[i], after.probabilities[i]
        texts.append(
            f"{part.ids[i]}\n"
            f"before: {part.classes[old.argmax()]} ({old.max():.0%})\n"
            f"after: {part.classes[new.argmax()]} ({new.max():.0%})\n"
            f"true: {part.classes[label]} ({old[label]:.0%} → {new[label]:.0%})"
        )
    return plots.before_after(images, before.attention(chosen), after.attention(chosen), texts, title)
