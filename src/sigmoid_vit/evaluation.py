"""The one evaluator: predictions of a part of a data set, their figures, and the attention behind errors."""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit import plots
from sigmoid_vit.data import BatchTransform, Part, Prepared, load_data
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically
from sigmoid_vit.metrics import classification_metrics, confident_errors
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.runs import Run, data_config, make_accelerator, write_json


@torch.no_grad()
def predict(
    model: SigmoidViT, part: Prepared, transform: BatchTransform, batch_size: int, accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """Class logits float32 [n, K] and labels int64 [n] of all images, in order, on every process's CPU."""
    training = model.training
    model.eval()
    rank, world, n = accelerator.process_index, accelerator.num_processes, len(part)
    share = -(-n // world)  # images per process; the last ones are repeated to make it even
    mine = np.arange(rank * share, (rank + 1) * share).clip(max=n - 1)
    parts = []
    for images, _, index in part.batches(np.split(mine, range(batch_size, share, batch_size))):
        with accelerator.autocast():
            parts.append(model(transform(images.to(accelerator.device), index)).float())
    model.train(training)
    return gather(torch.cat(parts))[:n].cpu(), torch.from_numpy(part.part.labels)


@torch.no_grad()
def sigmoid_attention(model: SigmoidViT, images: Tensor, layer: str | int = "last") -> tuple[Tensor, Tensor]:
    """Class logits [B, K] and sigmoid attention of the class token over the patches, 0..1 [B, H, gh, gw].

    A model without a class token is shown by the mean over its patch rows.
    """
    queries = "cls" if model.has_class_token else "all"
    class_logits, logits = model.forward_with_attention(images, layers=layer, queries=queries)
    rows = next(iter(logits.values())).sigmoid()[..., model.num_prefix_tokens :]
    grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    return class_logits, rows.mean(dim=2).unflatten(-1, grid)


def evaluate_run(
    folder: str | Path,
    split: str | None = None,
    which: str = "best",
    dataset_path: str | None = None,
    batch_size: int | None = None,
    errors_shown: int = 6,
) -> dict:
    """Evaluate a run on a part of its data set and write figures and pictures into its folder.

    Args:
        folder: the run, result/<RUNS_NAME>.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        which: "best" or "last" checkpoint.
        dataset_path: where the data set is now, if it was moved.

    Returns:
        The content of metrics.json, and the folder the files went to: evaluation/, with the names of another
        split or of the last checkpoint below it.
    """
    run = Run(folder)
    s = run.settings()
    model = run.load_model(which)
    data = load_data(s.dataset, dataset_path or s.dataset_path, s.val_fraction, s.seed, s.skip_bad_images)
    if list(data.classes) != run.classes:
        raise UserError(
            f"the data set's classes are not those {run.folder} was trained on; give its --dataset_path"
        )
    default = "test" if data.test_parts else "val"
    size = (s.img_size, s.img_size)
    part = _part(data, split or default).prepare(
        size, s.cache_gib, s.workers, data_config(model)["interpolation"]
    )
    accelerator = make_accelerator(s)
    model.to(accelerator.device)
    transform = BatchTransform(size, **data_config(model))
    logits, labels = predict(model, part, transform, batch_size or min(s.batch_size, 256), accelerator)
    probabilities = logits.softmax(dim=1)
    metrics = {"run": run.folder.name, "split": split or default, "checkpoint": which}
    metrics |= classification_metrics(probabilities, labels, run.classes)

    out = run.folder / "evaluation" / ("" if split in (None, default) else split)
    out = out / ("" if which == "best" else which)
    title = f"{run.folder.name}, {split or default}" + ("" if which == "best" else f", {which} epoch")
    write_json(out / "metrics.json", metrics)
    _write_predictions(out / "predictions.csv", part.part, probabilities, run.classes)
    confusion = plots.confusion_matrix(metrics["confusion_matrix"], run.classes, title)
    plots.save(confusion, out / "confusion_matrix")
    true_class = probabilities.gather(1, labels[:, None]).squeeze(1)
    plots.save(plots.mpp_histogram(true_class, metrics["mpp"], title), out / "mpp_histogram")
    errors = confident_errors(probabilities, labels, errors_shown)
    for old in out.glob("errors.p*"):  # of an earlier evaluation
        old.unlink()
    if errors:
        title = f"{title}: most confident errors"
        figure = attention_figure(model, part, transform, errors, run.classes, title)
        plots.save(figure, out / "errors")
    return {**metrics, "folder": str(out)}


def attention_figure(
    model: SigmoidViT,
    part: Prepared,
    transform: BatchTransform,
    chosen: list[int],
    classes: list[str],
    title: str = "",
) -> Figure:
    """The images at these positions with their sigmoid attention, head mean and every head."""
    images, labels, index = next(part.batches([np.array(chosen)]))
    device = next(model.parameters()).device
    class_logits, maps = sigmoid_attention(model, transform(images.to(device), index))
    titles = []
    for i, label, p in zip(chosen, labels, class_logits.float().softmax(dim=1).cpu(), strict=True):
        answer = f"answer {classes[p.argmax()]} ({p.max():.0%})"
        titles.append(f"{part.part.ids[i]}\n{answer}\ntrue {classes[label]} ({p[label]:.0%})")
    return plots.attention_grid(images, maps.cpu(), titles, title)


def _part(data, split: str) -> Part:
    parts = {"train": data.train} | ({"val": data.val} if data.val else {})
    if split in parts:
        return parts[split]
    if split in data.test_parts:
        return data.test(split)
    there = ", ".join([*parts, *data.test_parts])
    raise UserError(f"this run has no part {split!r}; choose one with --split: {there}")


def _write_predictions(path: Path, part: Part, probabilities: Tensor, classes: list[str]) -> None:
    """A row per image: id, label, prediction, and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "prediction", *(f"p({name})" for name in classes)])
    for name, label, row in zip(part.ids, part.labels, probabilities, strict=True):
        writer.writerow([name, classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row.tolist())])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
