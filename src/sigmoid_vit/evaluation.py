"""The one evaluator: predictions of a part of a data set, their figures, and the attention behind them.

With the run before it also writes what changed since, by the same predictions.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sigmoid_vit import pictures, plots
from sigmoid_vit.answers import Answers, sigmoid_attention
from sigmoid_vit.attention_quality import attention_quality, summary
from sigmoid_vit.comparison import changed_images, compare_answers, comparison_report, open_networks
from sigmoid_vit.data import Part
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically
from sigmoid_vit.human_attention import Marked, marked_cells
from sigmoid_vit.metrics import classification_metrics, confident_errors, confident_hits
from sigmoid_vit.pictures import LAYERS_SHOWN, Picture, attention_figure
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
OF_TWO_RUNS = ("outcomes", "fixed", "broken", "edits")


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
    against: str | Path | None = None,
) -> dict:
    """Evaluate a run on a part of its data set and write figures and pictures into its folder.

    Args:
        folder: the run, result/<RUNS_NAME>.
        split: "train", "val" or a test part; None for "test", or "val" in a data set without a test part.
        which: "best" or "last" checkpoint.
        dataset_path: where the data set is now, if it was moved.
        batch_size: images at a time; None for what each run was trained with, at most 256.
        errors_shown: how many errors, hits, fixed and broken images are pictured, of each; 0 for none.
        masks, edits: what the attention is measured against, a folder of masks or else a store of edits; with
            neither, the data set's own masks, where it has them (see `marked_cells`).
        faithfulness: how many images insertion and deletion are measured on; 0 for none.
        against: the run before, to be compared with on the same images.

    Returns:
        The content of metrics.json, and the folder the files went to: evaluation/, with the names of another
        split or of the last checkpoint below it. With `against` also comparison: the content of
        comparison.json (see `compare_answers`), and its folder, against_<name of the run before> below.

    Raises:
        UserError: a number is negative, or there is nothing to evaluate, to measure against or to compare
            with (see `open_networks`); known before anything is predicted or written.
    """
    for option, number in (("faithfulness", faithfulness), ("errors", errors_shown)):
        if number < 0:
            raise UserError(f"--{option} is {number}; it is a number of images, 0 for none")
    run, run_before = Run(folder), Run(against) if against else None
    data, part, network, former = open_networks(run, run_before, split, which, dataset_path)
    prepared = network.prepare(part)
    marked = marked_cells(data, prepared.part, network.grid, masks, edits)
    answers = network.answer(prepared, batch_size)
    before = former.answer(former.prepare(part), batch_size) if former else None
    metrics = {"run": run.folder.name, "split": part.name, "checkpoint": which}
    metrics |= _measure(answers, marked, batch_size or network.batch_size, faithfulness)
    out = run.evaluation(part.name, data.default_part, which)
    _write_metrics(out, answers, metrics, errors_shown)
    if before is None:
        return {**metrics, "folder": str(out)}
    below = out / f"against_{former.name}"
    change = _write_comparison(below, before, answers, data.train, errors_shown)
    return {**metrics, "folder": str(out), "comparison": {**change, "folder": str(below)}}


def _measure(answers: Answers, marked: Marked, batch_size: int, faithfulness: int) -> dict:
    """Figures of the answers, and of the attention behind them."""
    network, part = answers.network, answers.part
    metrics = classification_metrics(answers.probabilities, answers.labels, network.classes)
    quality = attention_quality(network.model, part, network.transform, marked, batch_size, faithfulness)
    return metrics | {"attention": quality}


def _write_metrics(out: Path, answers: Answers, metrics: dict, shown: int) -> None:
    """metrics.json, predictions.csv and the pictures of one run."""
    write_json(out / "metrics.json", metrics)
    classes = answers.network.classes
    _write_predictions(out / "predictions.csv", answers.part.part, answers.probabilities, classes)
    _write_pictures(out, PICTURES, _pictures(answers, metrics, shown))


def _write_comparison(out: Path, before: Answers, after: Answers, train: Part, shown: int) -> dict:
    """comparison.json, which is returned, and the pictures of two runs."""
    network, former, part = after.network, before.network, after.part.part
    change = {"run": network.name, "against": former.name, "split": part.name, "checkpoint": network.which}
    change |= compare_answers(before.probabilities, after.probabilities, after.labels, part.ids)
    write_json(out / "comparison.json", change)
    title = f"{network.name} against {former.name}, {part.name}"
    drawn = {"outcomes": pictures.outcomes(change, title), "edits": pictures.edits(network, former, train)}
    _write_pictures(out, OF_TWO_RUNS, drawn | changed_images(before, after, change, shown))
    return change


def _write_pictures(out: Path, names: Sequence[str], drawn: Mapping[str, Picture | None]) -> None:
    """Save those pictures that there are; of the others, those of an earlier evaluation go."""
    for name in names:
        for old in out.glob(f"{name}.p*"):
            old.unlink()
        if picture := drawn.get(name):
            plots.save(picture.figure, out / name)


def _pictures(answers: Answers, metrics: dict, shown: int) -> dict[str, Picture]:
    """Those of PICTURES that there are, by name, with at most so many errors and sure hits."""
    drawn = pictures.prediction_pictures(answers, metrics)
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
            looks = pictures.attention_pictures(answers, chosen, what, LAYERS_SHOWN)
            drawn |= {name: looks["heads"], f"{name}_layers": looks["layers"]}
    if shown:
        drawn["one_edit"] = pictures.edited_answer(answers, [*errors, *hits][0])
    return drawn


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
        *(comparison_report(metrics["comparison"]) if "comparison" in metrics else []),
    ]


def _write_predictions(path: Path, part: Part, probabilities: Tensor, classes: list[str]) -> None:
    """A row per image: id, label, prediction, and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "prediction", *(f"p({name})" for name in classes)])
    for name, label, row in zip(part.ids, part.labels, probabilities, strict=True):
        writer.writerow([name, classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row.tolist())])
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
