"""A run's network as a file for other programs, kept only where it computes what the run computes."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from sigmoid_vit.data import Prepared, read_image
from sigmoid_vit.deployment.formats import FORMATS, Exported, Loaded, format_of, quiet
from sigmoid_vit.deployment.preprocessing import as_told, preprocessing
from sigmoid_vit.deployment.standing_edit import StandingEditOptions, edit_text
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import write_json
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.options import option
from sigmoid_vit.runs.comparable import check_trained
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network

TOLERANCE = 1e-3  # largest difference of a class logit from the run's


@dataclass(kw_only=True)
class ExportOptions(StandingEditOptions):
    """What is exported and how; `src/export_model.py` has an option for every field."""

    run: str = option(text="the run's folder, result/<RUNS_NAME>")
    to: str = option(
        text="timm: a folder for timm.create_model('local-dir:...'); safetensors: the weights; onnx; "
        "torch_export: a program for torch.export.load",
        choices=tuple(FORMATS),
    )
    out: str | None = option(
        None, "folder to write, a new one (default: export/<format> in the run's folder)", metavar="DIR"
    )
    checkpoint: str = option("best", "which weights", ("best", "last"))
    images: int = option(32, "images of the validation part that it is checked on", low=2)
    dataset_path: str | None = option(None, "where the data set is now, if it was moved")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.edit and not FORMATS[self.to].holds_edit:
            names = " and ".join(name for name, found in FORMATS.items() if found.holds_edit)
            raise UserError(f"--to {self.to} has no place for an edit; {names} can hold one")


def export_model(options: ExportOptions) -> str:
    """Export a run's network, with preprocessing.json beside it, and check it; what was found, in words.

    Raises:
        UserError: the folder is there already, there is no such run, data set or edit, a package is missing,
            or the exported network differs from the run's by more than TOLERANCE: then nothing is kept.
    """
    o, run = options, Run(options.run)
    check_trained(run, o.checkpoint)
    out = Path(o.out) if o.out else run.folder / "export" / o.to
    if out.exists():
        raise UserError(f"{out} is there already and is never overwritten; choose another --out")
    kind, data = format_of(o.to), run.open_data(o.dataset_path)
    network = Network.of_run(run, o.checkpoint, Accelerator(cpu=True))
    edit = o.standing_edit(network)
    part = data.val or data.train
    positions = np.unique(np.linspace(0, len(part) - 1, o.images).astype(int))
    prepared = network.prepare(part.subset(positions))
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        unfinished.mkdir(parents=True)
        with quiet():
            kind.write(Exported(network, edit), unfinished)
            loaded = kind.load(unfinished)
        found = _check(network, loaded, prepared, edit)
        told = preprocessing(network)
        write_json(unfinished / "preprocessing.json", {**told, "checked": found})
        os.replace(unfinished, out)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error}); is the disk full or read-only?") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    inside = f" The standing edit is inside: {edit_text(edit)}." if edit else ""
    return f"{out}: {_text(found)}{inside}"


@torch.no_grad()
def _check(network: Network, loaded: Loaded, part: Prepared, edit: AttentionEdit | None) -> dict:
    """How far the exported network is from the run's, on the same input and from the image on.

    The input goes through it in two batches, of one image and of all others.
    """
    own, inputs = network.logits(part, edit=edit), network.inputs(part, list(range(len(part))))
    same_input = torch.cat([loaded(inputs[:1]), loaded(inputs[1:])])
    difference = (same_input - own).abs().max().item()
    if not difference <= TOLERANCE:  # true for NaN as well
        raise UserError(
            f"the exported network differs from the run's by {difference:.2g} in a class logit on "
            f"{len(part)} images; allowed is {TOLERANCE}, so nothing was kept: try another --to"
        )
    told = preprocessing(network)
    from_files = torch.cat([loaded(as_told(image, told)) for image in _images(part)])
    return {
        "images": len(part),
        "part": part.part.name,
        "tolerance": TOLERANCE,
        "largest difference of class logits": difference,
        "the same, with images read as told here": (from_files - own).abs().max().item(),
        "answers that differ then": int((from_files.argmax(1) != own.argmax(1)).sum()),
    }


def _images(part: Prepared) -> list[Image.Image]:
    """The images of a part as a program reads them: upright, RGB, at their own size."""
    if part.part.paths:
        return [read_image(path, values=part.part.value_range) for path in part.part.paths]
    return [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in part.part.images]


def _text(found: dict) -> str:
    n, part, allowed, largest, from_files, changed = found.values()
    return (
        f"largest difference of a class logit from the run's on {n} images ({part}): {largest:.2g} on the "
        f"same input (allowed: {allowed}), {from_files:.2g} with the images read as preprocessing.json says, "
        f"which changes {changed} answers."
    )
