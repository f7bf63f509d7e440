"""The one evaluator: predictions of a part of a data set, their figures, and the attention behind them."""

import csv
import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit import plots
from sigmoid_vit.attention_quality import attention_quality, looking_rows, summary
from sigmoid_vit.data import BatchTransform, Part, Prepared
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically
from sigmoid_vit.human_attention import marked_cells
from sigmoid_vit.metrics import classification_metrics, confident_errors
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.prediction import predict
from sigmoid_vit.runs import Run, data_config, make_accelerator, write_json


@torch.no_grad()
def sigmoid_attention(model: SigmoidViT, images: Tensor, layer: str | int = "last") -> tuple[Tensor, Tensor]:
    """Class logits [B, K] and sigmoid attention of the class token over the patches, 0..1 [B, H, gh, gw].

    A model without a class token is shown by the mean over its patch rows.
    """
    rows, patches = looking_rows(model), slice(model.num_prefix_tokens, None)
    queries = "cls" if model.has_class_token else "all"
    class_logits, logits = model.forward_with_attention(images, layers=layer, queries=queries)
    attention = next(iter(logits.values()))[:, :, rows, patches].sigmoid()
    grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    return class_logits, attention.mean(dim=2).unflatten(-1, grid)


def evaluate_run(
    folder: str | Path,
    split: str | None = None,
    which: str = "best",
    dataset_path: str | None = None,
    batch_size: int | None = None,
    errors_shown: int = 6,
    masks: str | None = None,
    edits: str | None = None,
    faithfulness: int = 50,
) -> dict:
    """Evaluate a run on a part of its data set and write figures and pictures into its folder.

    Args:
        folder: the run, result/<RUNS_NAME>.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        which: "best" or "last" checkpoint.
        dataset_path: where the data set is now, if it was moved.
        masks, edits: what the attention is measured against, a folder of masks or else a store of edits; with
            neither, the data set's own masks, where it has them (see `marked_cells`).
        faithfulness: how many images insertion and deletion are measured on; 0 for none.

    Returns:
        The content of metrics.json, and the folder the files went to: evaluation/, with the names of another
        split or of the last checkpoint below it.
    """
    if faithfulness < 0:
        raise UserError(f"--faithfulness is {faithfulness}; it is a number of images, 0 for none")
    run = Run(folder)
    s = run.settings()
    model = run.load_model(which)
    data = run.open_data(dataset_path)
    split = split or data.default_part
    size, config = (s.img_size, s.img_size), data_config(model)
    part = data.part(split).prepare(size, s.cache_gib, s.workers, config["interpolation"])
    grid = model.patch_embed.dynamic_feat_size(size)
    marked = marked_cells(data, part.part, grid, masks, edits)
    accelerator = make_accelerator(s)
    model.to(accelerator.device)
    transform = BatchTransform(size, **config)
    batch_size = batch_size or min(s.batch_size, 256)
    logits, labels = predict(model, part, transform, batch_size, accelerator)
    probabilities = logits.softmax(dim=1)
    metrics = {"run": run.folder.name, "split": split, "checkpoint": which}
    metrics |= classification_metrics(probabilities, labels, run.classes)
    quality = attention_quality(model, part, transform, marked, batch_size, faithfulness)
    metrics["attention"] = quality

    out = run.evaluation(split, data.default_part, which)
    title = f"{run.folder.name}, {split}" + ("" if which == "best" else f", {which} epoch")
    write_json(out / "metrics.json", metrics)
    _write_predictions(out / "predictions.csv", part.part, probabilities, run.classes)
    confusion = plots.confusion_matrix(metrics["confusion_matrix"], run.classes, title)
    plots.save(confusion, out / "confusion_matrix")
    true_class = probabilities.gather(1, labels[:, None]).squeeze(1)
    plots.save(plots.mpp_histogram(true_class, metrics["mpp"], title), out / "mpp_histogram")
    for old in (*out.glob("errors.p*"), *out.glob("insertion_deletion.p*")):  # of an earlier evaluation
        old.unlink()
    if faithfulness:
        plots.save(plots.insertion_deletion(quality["faithfulness"], title), out / "insertion_deletion")
    if errors := confident_errors(probabilities, labels, errors_shown):
        title = f"{title}: most confident errors"
        figure = attention_figure(model, part, transform, errors, run.classes, title)
        plots.save(figure, out / "errors")
    return {**metrics, "folder": str(out)}


def report(run: str | Path, metrics: dict) -> list[str]:
    """What `evaluate_run` found, in a few lines for the person."""
    tops = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("top"))
    figures = ", ".join(
        f"{name} {value:.4f}"
        for name, value in (
            ("MPP", metrics["mpp"]["mean"]),
            ("ECE", metrics["ece"]),
            ("macro", metrics["macro_accuracy"]),
        )
    )
    return [
        f"{run} on {metrics['split']} ({metrics['n']} images): {tops}",
        figures,
        *summary(metrics["attention"]),
        f"figures, predictions and pictures: {metrics['folder']}",
    ]


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


def _write_predictions(path: Path, part: Part, probabilities: Tensor, classes: list[str]) -> None:
    """A row per image: id, label, prediction, and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "prediction", *(f"p({name})" for name in classes)])
    for name, label, row in zip(part.ids, part.labels, probabilities, strict=True):
        writer.writerow([name, classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row.tolist())])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
