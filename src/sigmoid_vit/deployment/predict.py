"""Predictions of any image files by a run's network: CSV, JSON lines, and decision maps on request."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sigmoid_vit.data import BadImage, Part
from sigmoid_vit.data.images import for_each_file
from sigmoid_vit.data.parts import MAX_WORKERS
from sigmoid_vit.deployment.image_files import find_images
from sigmoid_vit.deployment.standing_edit import StandingEditOptions, edit_text
from sigmoid_vit.errors import UserError
from sigmoid_vit.figures.decisions import draw_decision
from sigmoid_vit.figures.style import rendered
from sigmoid_vit.files import as_text, write_atomically, write_csv
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.options import option
from sigmoid_vit.runs.comparable import check_trained
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network, make_accelerator

AT_A_TIME = 1024  # files decoded and kept in memory at once
DIGITS = 6  # of probabilities, behind the point
TABLE = "predictions.csv"


@dataclass(kw_only=True)
class PredictOptions(StandingEditOptions):
    """What is predicted and how; `src/predict.py` has an option for every field."""

    run: str = option(text="the run's folder, result/<RUNS_NAME>")
    images: Sequence[str] = option(
        text="image files, folders, quoted patterns such as 'photos/**/*.jpg', or @LIST: a text file with "
        "one of these in each line",
        flag="images",
        nargs="+",
        metavar="IMAGES",
    )
    out: str = option("predictions", "folder to write; it must not hold predictions yet", metavar="DIR")
    checkpoint: str = option("best", "which weights", ("best", "last"))
    decision_maps: bool = option(False, "also draw what decides on each image, as PNG")
    batch_size: int | None = option(
        None, "images at a time (default: what the run was trained with, at most 256)", low=1
    )


@dataclass
class Predicted:
    """What became of the files: predictions, and files that cannot be read."""

    folder: Path
    images: int
    bad: list[BadImage]
    edit: str = ""  # the standing edit, in words

    def text(self) -> str:
        """In a few words for the person."""
        lost = f"; {len(self.bad)} files could not be read" if self.bad else ""
        edited = f", with a standing edit ({self.edit})" if self.edit else ""
        return f"{self.folder}: predictions of {self.images} images{edited}{lost}"


def predict(options: PredictOptions) -> Predicted:
    """Predict image files and write predictions.csv, predictions.jsonl and, on request, decision_maps/*.png.

    Each file has a row, in the order given. One that cannot be read has its reason in the column "error" and
    is named on stderr; the others are predicted.

    Raises:
        UserError: no file can be read, the folder holds predictions already, or there is no such run or edit.
    """
    o, run, out = options, Run(options.run), Path(options.out)
    check_trained(run, o.checkpoint)
    if (out / TABLE).exists():
        raise UserError(f"{out} holds predictions already and is never overwritten; choose another --out")
    files = find_images(o.images)
    network = Network.of_run(run, o.checkpoint, make_accelerator(run.settings()))
    edit = o.standing_edit(network)
    if edit and o.decision_maps and not edit.everywhere:
        raise UserError(f"--decision_maps needs an edit of all layers, heads and rows; {o.edit} has less")
    rows, bad = [], []
    for file, found in zip(files, predictions_of(network, files, o.batch_size, edit), strict=True):
        if isinstance(found, BadImage):
            bad.append(found)
            tqdm.write(f"not read: {found}", file=sys.stderr)
        rows.append(_row(file, found, network.classes))
        if o.decision_maps and not isinstance(found, BadImage):
            rows[-1]["decision_map"] = _draw(network, file, rows[-1], edit, out, len(rows))
    if len(bad) == len(files):
        raise UserError(f"none of the {len(files)} files can be read, the first: {bad[0]}")
    _write(out, rows, network.classes)
    return Predicted(out, len(files) - len(bad), bad, edit_text(edit) if edit else "")


def predictions_of(
    network: Network, files: Sequence[Path], batch_size: int | None = None, edit: AttentionEdit | None = None
) -> Iterator[Tensor | BadImage]:
    """Of each file the probabilities of the classes, float32 [K] on the CPU, or why it cannot be read.

    What an image gets does not depend on the images beside it.
    """
    workers = network.settings.workers or min(os.cpu_count() or 1, MAX_WORKERS)
    with tqdm(total=len(files), desc="predict", unit=" images", disable=None) as bar:
        for start in range(0, len(files), AT_A_TIME):
            chunk = files[start : start + AT_A_TIME]
            found = for_each_file(lambda i, c=chunk: network.pixels(c[i]), len(chunk), workers, "read")
            shapes = [None if isinstance(pixels, BadImage) else pixels.shape for pixels in found]
            for shape in set(shapes) - {None}:
                at = [i for i, s in enumerate(shapes) if s == shape]
                for i, p in zip(at, _predict(network, [found[i] for i in at], batch_size, edit), strict=True):
                    found[i] = p
            yield from found
            bar.update(len(chunk))


def _predict(
    network: Network, pixels: list[Tensor], batch_size: int | None, edit: AttentionEdit | None
) -> Tensor:
    """Probabilities [n, K] of n images of one size, uint8 [3, h, w] each."""
    ids, labels = [str(i) for i in range(len(pixels))], np.zeros(len(pixels), dtype=np.int64)
    part = Part(ids, labels, network.classes, images=torch.stack(pixels))
    return network.logits(network.prepare(part), batch_size, edit).softmax(1)


def _row(file: Path, found: Tensor | BadImage, classes: list[str]) -> dict:
    if isinstance(found, BadImage):
        return {"image": as_text(file), "error": found.reason}
    best = int(found.argmax())
    probabilities = {name: round(p, DIGITS) for name, p in zip(classes, found.tolist(), strict=True)}
    row = {"image": as_text(file), "prediction": classes[best], "probability": probabilities[classes[best]]}
    return row | {"probabilities": probabilities}


def _draw(network: Network, file: Path, row: dict, edit: AttentionEdit | None, out: Path, number: int) -> str:
    """Write the decision map of a file, and say where it lies in the folder."""
    pixels = network.pixels(file)
    inputs = network.transform(pixels[None].to(network.device), torch.zeros(1, dtype=torch.long))
    effect = network.decision_map(inputs, edit=edit)[0]
    known = "exact" if network.erases_every_cell else "estimated"
    text = f"{row['image']}\n{row['prediction']} ({row['probability']:.1%}), {known}"
    name = f"decision_maps/{number:06d}_{as_text(file.stem)[:60]}.png"
    content = rendered(draw_decision(pixels, effect, text))
    write_atomically(out / name, lambda f: f.write(content))
    return name


def _write(out: Path, rows: list[dict], classes: list[str]) -> None:
    """The CSV last: with it, the folder is complete."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(out / "predictions.jsonl", lambda file: file.write(lines.encode()))
    table = [["image", "prediction", "probability", *(f"p({name})" for name in classes), "error"]]
    for row in rows:
        p = [f"{x:.{DIGITS}f}" for x in row.get("probabilities", {}).values()] or [""] * len(classes)
        highest = f"{row['probability']:.{DIGITS}f}" if "probability" in row else ""
        table.append([row["image"], row.get("prediction", ""), highest, *p, row.get("error", "")])
    write_csv(out / TABLE, table)
