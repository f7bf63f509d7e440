"""The one evaluator: predictions of a part of a data set, their figures, and the attention behind them.

With the run before it also writes what changed since, by the same predictions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigmoid_vit.annotations.marked import MarkedCells, marked_cells
from sigmoid_vit.data import Part
from sigmoid_vit.evaluation.attention_quality import attention_quality, summary
from sigmoid_vit.evaluation.backgrounds import background_test, background_text
from sigmoid_vit.evaluation.comparison import compare_predictions, comparison_report
from sigmoid_vit.evaluation.metrics import classification_metrics
from sigmoid_vit.evaluation.paired import Outcomes, difference_text, paired_differences, paired_runs
from sigmoid_vit.figures.attention_maps import LAYERS_SHOWN, attention_pictures
from sigmoid_vit.figures.classification import classification_pictures
from sigmoid_vit.figures.decisions import decision_pictures
from sigmoid_vit.figures.faithfulness import faithfulness_picture
from sigmoid_vit.figures.learning_curves import learning_curves
from sigmoid_vit.figures.one_edit import edit_effect
from sigmoid_vit.figures.style import Picture, save
from sigmoid_vit.figures.training_edits import training_edits
from sigmoid_vit.figures.two_runs import changed_pictures, outcomes_picture
from sigmoid_vit.files import write_csv, write_json
from sigmoid_vit.options import check_options, option
from sigmoid_vit.runs.comparable import open_networks
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Predictions

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
    "decisions",
    "confusions",
)
OF_TWO_RUNS = ("outcomes", "fixed", "broken", "edits")
SEEN = {  # what `Settings.seen` answers, in words
    "trained": "the network was trained on these images: expect less on new ones",
    "chosen": "these images chose the epoch that was kept: new ones may do worse",
}


@dataclass
class EvaluateOptions:
    """What is evaluated and how; `src/evaluate.py` has an option for every field."""

    run: str = option(text="the run's folder, result/<RUNS_NAME>; or a quoted pattern: 'result/full_s*'")
    split: Sequence[str] = option(
        (), "train, val or test parts (default: test, or val where there is no test)", nargs="+"
    )
    checkpoint: str = option("best", "which weights", ("best", "last"))
    dataset_path: str | None = option(None, "where the data set is now, if it was moved")
    batch_size: int | None = option(
        None, "images at a time (default: what the run was trained with, at most 256)", low=1
    )
    errors: int = option(6, "how many errors, hits, fixed and broken images to picture, of each", low=0)
    masks: str | None = option(
        None, "measure the attention against masks, one per image, in this folder", metavar="DIR"
    )
    edits: str | None = option(
        None, "or against the edits of people in this store (default: own masks)", metavar="STORE"
    )
    faithfulness: int = option(50, "images for insertion and deletion, 0 for none", low=0)
    decision_maps: int = option(
        50, "images for the mean decision maps of classes and confusions, 0 for none", low=0
    )
    insertion_start: str = option(
        "mean", "what cells are brought into: the mean colour, or the image blurred (RISE)", ("mean", "blur")
    )
    backgrounds: bool = option(
        False, "also the accuracy with the background of the marked images hidden, and exchanged"
    )
    against: str | None = option(
        None,
        "the run before, or a pattern, paired by seed: what changed, differences, McNemar's test",
        metavar="RUN",
    )

    def __post_init__(self) -> None:
        check_options(self)


def evaluate(options: EvaluateOptions) -> Iterator[dict]:
    """Evaluate runs on parts of their data set and write figures and pictures into their folders.

    Yields:
        For each part and run the content of metrics.json, and the folder the files went to: evaluation/, with
        the names of another split or of the last checkpoint below it. With `against` also comparison: the
        content of comparison.json (see `compare_predictions`), and its folder below, against_<run before>;
        and behind the last of several pairs, pairs: their `paired_differences`.

    Raises:
        UserError: there is nothing to evaluate, to measure against or to compare with (see `open_networks`);
            known before anything of the part is written.
    """
    runs = paired_runs(options.run, options.against)
    for split in options.split or (None,):
        outcomes = []
        for run, before in runs:
            metrics = _evaluate_part(options, run, before, split, outcomes)
            if 1 < len(outcomes) == len(runs):
                metrics["pairs"] = paired_differences(outcomes)
            yield metrics


def evaluate_run(run: str | Path, split: str | None = None, **options) -> dict:
    """Evaluate a run on one part; `options` are further fields of `EvaluateOptions`. See `evaluate`."""
    return next(evaluate(EvaluateOptions(str(run), [split] if split else (), **options)))


def _evaluate_part(
    o: EvaluateOptions, run: Run, run_before: Run | None, split: str | None, outcomes: list[Outcomes]
) -> dict:
    data, part, network, former = open_networks(run, run_before, split, o.checkpoint, o.dataset_path)
    prepared = network.prepare(part)
    marked = marked_cells(data, prepared.part, network.grid, o.masks, o.edits)
    predictions = network.predict(prepared, o.batch_size)
    before = former.predict(former.prepare(part), o.batch_size) if former else None
    metrics = {"run": run.folder.name, "split": part.name, "checkpoint": o.checkpoint}
    metrics["seen"] = network.settings.seen(part.name, o.checkpoint)
    metrics |= _measure(predictions, marked, o)
    out = run.evaluation(part.name, data.default_part, o.checkpoint)
    decided = decision_pictures(predictions, o.decision_maps) if o.decision_maps else {}
    metrics |= {name: picture.numbers for name, picture in decided.items()}
    _write_metrics(out, predictions, metrics, o.errors, decided)
    if before is None:
        return {**metrics, "folder": str(out)}
    both = before.probabilities, predictions.probabilities, predictions.labels
    outcomes.append(Outcomes.of(*both, predictions.groups))
    below = out / f"against_{former.name}"
    change = _write_comparison(below, before, predictions, data.train, o.errors)
    return {**metrics, "folder": str(out), "comparison": {**change, "folder": str(below)}}


def _measure(predictions: Predictions, marked: MarkedCells, o: EvaluateOptions) -> dict:
    """Figures of the predictions, and of the attention behind them."""
    network, part = predictions.network, predictions.part
    metrics = classification_metrics(predictions.probabilities, predictions.labels, network.classes)
    batch_size = o.batch_size or network.batch_size
    quality = attention_quality(network, part, marked, batch_size, o.faithfulness, o.insertion_start)
    if o.backgrounds:
        metrics["backgrounds"] = background_test(predictions, marked, batch_size)
    return metrics | {"attention": quality}


def _write_metrics(
    out: Path, predictions: Predictions, metrics: dict, shown: int, decided: Mapping[str, Picture]
) -> None:
    """metrics.json, predictions.csv and the pictures of one run."""
    write_json(out / "metrics.json", metrics)
    _write_predictions(out / "predictions.csv", predictions)
    _write_pictures(out, PICTURES, _pictures(predictions, metrics, shown) | decided)


def _write_comparison(out: Path, before: Predictions, after: Predictions, train: Part, shown: int) -> dict:
    """comparison.json, which is returned, and the pictures of two runs."""
    network, former, part = after.network, before.network, after.part.part
    change = {"run": network.name, "against": former.name, "split": part.name, "checkpoint": network.which}
    change |= compare_predictions(
        before.probabilities, after.probabilities, after.labels, part.ids, after.groups
    )
    write_json(out / "comparison.json", change)
    title = f"{network.name} against {former.name}, {part.name}"
    drawn = {"outcomes": outcomes_picture(change, title), "edits": training_edits(network, former, train)}
    _write_pictures(out, OF_TWO_RUNS, drawn | changed_pictures(before, after, change, shown))
    return change


def _write_pictures(out: Path, names: Sequence[str], drawn: Mapping[str, Picture | None]) -> None:
    """Save those pictures that there are; of the others, those of an earlier evaluation go."""
    for name in names:
        for old in out.glob(f"{name}.p*"):
            old.unlink()
        if picture := drawn.get(name):
            save(picture.figure, out / name)


def _pictures(predictions: Predictions, metrics: dict, shown: int) -> dict[str, Picture]:
    """Those of PICTURES that there are, by name, with at most so many errors and sure hits."""
    drawn = classification_pictures(predictions, metrics)
    if curves := learning_curves(predictions.network.run, predictions.network.which):
        drawn["learning_curves"] = curves
    if found := metrics["attention"].get("faithfulness"):
        drawn["insertion_deletion"] = faithfulness_picture(predictions, found)
    errors, hits = predictions.confident_errors(shown), predictions.surest_hits(shown)
    for name, chosen, what in (
        ("errors", errors, "most confident errors"),
        ("hits", hits, "surest hits"),
    ):
        if chosen:
            found = attention_pictures(predictions, chosen, what, LAYERS_SHOWN)
            drawn |= {name: found["heads"], f"{name}_layers": found["layers"]}
    if shown:
        drawn["one_edit"] = edit_effect(predictions, [*errors, *hits][0])
    return drawn


def report(metrics: dict) -> list[str]:
    """What `evaluate` found, in a few lines for the person."""
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
        f"{metrics['run']} on {metrics['split']} ({metrics['n']} images): {tops}",
        *([SEEN[metrics["seen"]]] if metrics["seen"] else []),
        figures,
        *_beside_the_commonest_class(metrics),
        *([background_text(metrics["backgrounds"])] if "backgrounds" in metrics else []),
        *summary(metrics["attention"]),
        f"figures, predictions and pictures: {metrics['folder']}",
        *(comparison_report(metrics["comparison"]) if "comparison" in metrics else []),
        *([f"all pairs: {difference_text(metrics['pairs'])}"] if "pairs" in metrics else []),
    ]


def _beside_the_commonest_class(metrics: dict) -> list[str]:
    """What one answer for every image would get, and whether the network gives no other."""
    trivial = metrics["commonest_class"]
    lines = [
        f"{trivial['class']!r} for every image would get: top1 {trivial['top1']:.4f}, "
        f"macro {trivial['macro_accuracy']:.4f}"
    ]
    if metrics["predicted_classes"] == 1:
        lines.append(
            "warning: the network predicts one and the same class for every image: a majority classifier"
        )
    return lines


def _write_predictions(path: Path, predictions: Predictions) -> None:
    """A row per image: id, label, prediction, and the probability of every class."""
    part, classes = predictions.part.part, predictions.network.classes
    lines = [["id", "label", "prediction", *(f"p({name})" for name in classes)]]
    for name, label, row in zip(part.ids, part.labels, predictions.probabilities, strict=True):
        lines.append([name, classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row.tolist())])
    write_csv(path, lines)
