"""Results tables: a row per kind of run, mean and standard deviation over its seeds, and their folders."""

import glob
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from scipy.stats import t

from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_atomically, write_csv, write_json
from sigmoid_vit.model.checkpoints import load_checkpoint
from sigmoid_vit.runs.folder import Run

Values = dict[str, list[float]]  # metric: a value per run


def summary(values: Values) -> dict[str, dict[str, float | int | None]]:
    """metric -> mean, sd (of the sample; None for one run) and n."""
    return {
        metric: {
            "mean": statistics.fmean(x),
            "sd": statistics.stdev(x) if len(x) > 1 else None,
            "n": len(x),
        }
        for metric, x in values.items()
    }


def table_text(rows: dict[str, Values]) -> str:
    """The rows as a Markdown table: mean +- sd (n)."""
    metrics = list(dict.fromkeys(metric for values in rows.values() for metric in values))
    lines = ["| | " + " | ".join(metrics) + " | n |", "|---" * (len(metrics) + 2) + "|"]
    for name, values in rows.items():
        cells = [_cell(figures) for figures in summary(values).values()]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(next(iter(values.values())))} |")
    return "\n".join(lines)


def difference_text(rows: dict[str, dict[str, dict[str, float]]], against: str) -> str:
    """How much more each row has than the row `against`, in Markdown: mean [95 % interval of Student's t].

    Runs of one seed are a pair; an interval takes two pairs.

    Raises:
        UserError: there is no such row, or rows have no seed in common.
    """
    if against not in rows:
        raise UserError(f"--against {against!r} is no row; the rows are {', '.join(rows)}")
    reference = {Run(folder).settings().seed: values for folder, values in rows[against].items()}
    metrics = list(next(iter(reference.values())))
    lines = [f"| difference to {against} | " + " | ".join(metrics) + " | pairs |"]
    lines.append("|---" * (len(metrics) + 2) + "|")
    for name, runs in rows.items():
        seeds = {Run(folder).settings().seed: values for folder, values in runs.items()}
        common = sorted(seeds.keys() & reference.keys())
        if not common:
            raise UserError(f"{name} and {against} have no run of the same seed, so there is nothing to pair")
        gains = {m: [seeds[seed][m] - reference[seed][m] for seed in common] for m in metrics}
        if name != against:
            cells = [_interval(gain) for gain in gains.values()]
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(common)} |")
    return "\n".join(lines)


def _interval(gains: list[float]) -> str:
    n, mean = len(gains), statistics.fmean(gains)
    if n < 2:
        return f"{mean:+.4f}"
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(gains) / n**0.5
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def write_table(
    path: str | Path, rows: dict[str, dict[str, dict[str, float]]], against: str | None = None
) -> str:
    """Write rows {name: {run folder: {metric: value}}} as PATH.json (means alone), .csv (every run) and .md.

    Args:
        against: the row that the others are compared with, see `difference_text`.

    Returns:
        The text of the .md file.
    """
    path = str(path).removesuffix(".json")
    values = {name: _by_metric(runs) for name, runs in rows.items()}
    means = {name: {metric: statistics.fmean(x) for metric, x in v.items()} for name, v in values.items()}
    write_json(Path(path + ".json"), means)
    lines = [["row", "run", "metric", "value"]]
    for name, runs in rows.items():
        for folder, metrics in runs.items():
            lines += [[name, folder, metric, repr(value)] for metric, value in metrics.items()]
    write_csv(path + ".csv", lines)
    runs = [f"- {name}: {', '.join(folders)}" for name, folders in rows.items()]
    parts = [table_text(values)]
    if against:
        parts.append(difference_text(rows, against))
    counts = {name: len(folders) for name, folders in rows.items()}
    if len({*counts.values()}) > 1:
        parts.append("The rows differ in n: " + ", ".join(f"{name} {n}" for name, n in counts.items()) + ".")
    report = "\n\n".join([*parts, "\n".join(runs)]) + "\n"
    write_atomically(Path(path + ".md"), lambda file: file.write(report.encode()))
    return report


def logged(runs: Iterable[str | Path]) -> dict[str, dict[str, float]]:
    """What each run's log says of the epoch it kept: {run folder: {metric: value}}."""
    result = {}
    for folder in runs:
        run = Run(folder)
        epoch = load_checkpoint(run.best)["epoch"]
        line = next(line for line in run.history() if line["epoch"] == epoch)
        result[str(folder)] = {
            key: line[key] for key in ("accuracy", "val_accuracy", "val_loss") if key in line
        }
    return result


def evaluated(pattern: str, metrics: dict[str, str]) -> dict[str, dict[str, float]]:
    """Figures that evaluate.py wrote, of every run whose folder matches: {run folder: {metric: value}}.

    Args:
        pattern: a run's folder, or a shell pattern for the runs of several seeds.
        metrics: name -> "SPLIT:KEY", the part of the data set and the (dotted) key in its metrics.json.
    """
    folders = sorted(glob.glob(pattern)) or [pattern]
    return {folder: {name: _figure(Path(folder), at) for name, at in metrics.items()} for folder in folders}


def pairs(arguments: list[str], option: str) -> dict[str, str]:
    """["a=b", ...] as {"a": "b", ...}."""
    for text in arguments:
        if not all(text.partition("=")):
            raise UserError(f"{option} {text!r} is not of the form NAME=VALUE")
    return dict(text.split("=", 1) for text in arguments)


def _figure(folder: Path, at: str) -> float:
    split, _, key = at.partition(":")
    places = [folder / "evaluation" / split / "metrics.json", folder / "evaluation" / "metrics.json"]
    for place in places:
        found = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {"split": None}
        if found["split"] == split:
            break
    else:
        raise UserError(
            f"{folder} was not evaluated on {split}: python3 src/evaluate.py --run {folder} --split {split}"
        )
    for part in (key or "top1").split("."):
        if not isinstance(found, dict) or part not in found:
            raise UserError(f"{place} has no figure {key!r}; its keys: {', '.join(found)}")
        found = found[part]
    return float(found)


def _by_metric(runs: dict[str, dict[str, float]]) -> Values:
    names = dict.fromkeys(metric for metrics in runs.values() for metric in metrics)
    return {name: [metrics[name] for metrics in runs.values()] for name in names}


def _cell(figures: dict) -> str:
    sd = "" if figures["sd"] is None else f" ± {figures['sd']:.4f}"
    return f"{figures['mean']:.4f}{sd}"
