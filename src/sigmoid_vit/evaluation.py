"""The one evaluator: predictions of a part of a data set, their figures, and the attention behind them."""

import csv
import io
from pathlib import Path

from torch import Tensor

from sigmoid_vit import pictures, plots
from sigmoid_vit.answers import Answers, Network, sigmoid_attention
from sigmoid_vit.attention_quality import attention_quality, summary
from sigmoid_vit.data import Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically
from sigmoid_vit.human_attention import marked_cells
from sigmoid_vit.metrics import classification_metrics, confident_errors, confident_hits
from sigmoid_vit.pictures import Picture, attention_figure
from sigmoid_vit.prediction import predict
from sigmoid_vit.runs import Run, write_json

__all__ = ["attention_figure", "evaluate_run", "predict", "report", "sigmoid_attention"]
PICTURES = (
    "learning_curves",
    "top_k",
    "mpp_histogram",
    "per_class_accuracy",
    "confusion_matrix",
    "calibration",
    "errors",
    "errors_layers",
    "hits",
    "hits_layers",
    "one_edit",
    "insertion_deletion",
)


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
        errors_shown: how many errors and how many hits are pictured; 0 for none.
        masks, edits: what the attention is measured against, a folder of masks or else a store of edits; with
            neither, the data set's own masks, where it has them (see `marked_cells`).
        faithfulness: how many images insertion and deletion are measured on; 0 for none.

    Returns:
        The content of metrics.json, and the folder the files went to: evaluation/, with the names of another
        split or of the last checkpoint below it.
    """
    for option, number in (("faithfulness", faithfulness), ("errors", errors_shown)):
        if number < 0:
            raise UserError(f"--{option} is {number}; it is a number of images, 0 for none")
    run = Run(folder)
    network = Network(run, which)
    data = run.open_data(dataset_path)
    split = split or data.default_part
    part = network.prepare(data.part(split))
    marked = marked_cells(data, part.part, network.grid, masks, edits)
    batch_size = batch_size or network.batch_size
    answers = network.answer(part, batch_size)
    metrics = {"run": run.folder.name, "split": split, "checkpoint": which}
    metrics |= classification_metrics(answers.probabilities, answers.labels, run.classes)
    quality = attention_quality(network.model, part, network.transform, marked, batch_size, faithfulness)
    metrics["attention"] = quality

    out = run.evaluation(split, data.default_part, which)
    write_json(out / "metrics.json", metrics)
    _write_predictions(out / "predictions.csv", part.part, answers.probabilities, run.classes)
    drawn = _pictures(answers, metrics, errors_shown)
    for name in PICTURES:
        for old in out.glob(f"{name}.p*"):  # of an earlier evaluation
            old.unlink()
        if picture := drawn.get(name):
            plots.save(picture.figure, out / name)
    return {**metrics, "folder": str(out)}


def _pictures(answers: Answers, metrics: dict, shown: int) -> dict[str, Picture]:
    """Those of PICTURES that there are, by name, with at most so many errors and sure hits."""
    drawn = pictures.predictions(answers, metrics)
    if curves := pictures.learning_curves(answers.network.run, answers.network.which):
        drawn["learning_curves"] = curves
    if found := metrics["attention"].get("faithfulness"):
        drawn["insertion_deletion"] = pictures.faithfulness(answers, found)
    p, labels = answers.probabilities, answers.labels
    errors, hits = confident_errors(p, labels, shown), confident_hits(p, labels, shown)
    for name, chosen, what in (
        ("errors", errors, "most confident errors"),
        ("hits", hits, "surest hits"),
    ):
        if chosen:
            looks = pictures.attention(answers, chosen, what)
            drawn |= {name: looks["heads"], f"{name}_layers": looks["layers"]}
    if shown:
        drawn["one_edit"] = pictures.edited_answer(answers, [*errors, *hits][0])
    return drawn


def picture_change(
    change: dict, folder: str | Path, against: str | Path, dataset_path: str | None = None
) -> None:
    """Write the table of what `comparison.compare_runs` found, and the edits in between, into its folder."""
    out, which = Path(change["folder"]), change["checkpoint"]
    title = f"{change['run']} against {change['against']}, {change['split']}"
    plots.save(pictures.outcomes(change, title).figure, out / "outcomes")
    after = Network(Run(folder), which)
    before = Network(Run(against), which, after.accelerator)
    if edits := pictures.edits(after, before, after.run.open_data(dataset_path).train):
        plots.save(edits.figure, out / "edits")


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


def _write_predictions(path: Path, part: Part, probabilities: Tensor, classes: list[str]) -> None:
    """A row per image: id, label, prediction, and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "prediction", *(f"p({name})" for name in classes)])
    for name, label, row in zip(part.ids, part.labels, probabilities, strict=True):
        writer.writerow([name, classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row.tolist())])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
