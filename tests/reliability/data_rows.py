"""A data set that changes between Step 1, a resumed run, Step 2, evaluation and the editor."""

import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from sigmoid_vit.editor.session import EditorOptions, Session
from sigmoid_vit.evaluation.evaluate import evaluate_run
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.training.trainer import Trainer

from . import material
from .harness import Row, outcome

STAGES = ("resumed", "Step 2", "evaluated", "opened in the editor")
CHANGES = ("added", "deleted", "replaced", "relabelled", "class renamed")


class ChangedData(Row):
    promise = (
        "one file added, deleted, replaced or relabelled, or a class renamed, after Step 1; then the run is "
        "resumed, gone on from in Step 2, evaluated or opened in the editor: nobody is told"
    )
    control = "a run that does not keep its images"
    tries = (20, 200)
    controls = (10, 20)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images = material.images(folder / "images", per_class=12)

    def without(self):
        return patch.object(Run, "_kept_images", lambda self, dataset_path: None)

    def attempt(self, number, folder, random, protected):
        stage, change = STAGES[number % 4], CHANGES[number // 4 % 5]
        images = shutil.copytree(self.images, folder / "images")
        run = material.a_run(folder, images)
        shutil.copy(run.best, run.last)
        data = run.open_data()
        part = data.val if random.integers(2) else data.train
        victim = images / part.ids[random.integers(len(part))]
        self._change(images, victim, change, random)
        kind, _, said = outcome(lambda: self._next(stage, folder, images, run))
        name = {"added": "zz.png", "class renamed": "missing now"}.get(change, victim.name)
        if kind == "traceback":
            return f"{change}, {stage}: {said.strip().splitlines()[-1]}"
        return "" if name in said else f"{change}, {stage}: not told"

    def _change(self, images: Path, victim: Path, change: str, random) -> None:
        if change == "added":
            shutil.copy(victim, victim.with_name("zz.png"))
        elif change == "deleted":
            victim.unlink()
        elif change == "replaced":
            Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(victim)
        elif change == "relabelled":
            other = {"a": "b", "b": "a"}[victim.parent.name]
            victim.rename(victim.parent.with_name(other) / f"moved_{victim.name}")
        else:
            victim.parent.rename(victim.parent.with_name("c"))

    def _next(self, stage: str, folder: Path, images: Path, run: Run) -> None:
        if stage == "evaluated":
            evaluate_run(run.folder, "val", faithfulness=0, errors=0, decision_maps=0)
        elif stage == "opened in the editor":
            Session(EditorOptions(str(run.folder), str(folder / "edits.sqlite"), split="val"))
        else:
            more = ["--resume"]
            if stage == "Step 2":
                more = ["--first_step", str(run.folder), "--control", "no_edits", "--runs_name", "two"]
            Trainer(material.run_settings(folder, images, *more)).prepare()
