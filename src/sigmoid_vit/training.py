"""The one trainer: settings in, a run folder out."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from sigmoid_vit.config import Settings
from sigmoid_vit.data import BatchTransform, DataModule
from sigmoid_vit.edit_maps import EditMaps, account_text, load_edits
from sigmoid_vit.evaluation import predict
from sigmoid_vit.files import sha256
from sigmoid_vit.hitl import HITLLoss, Plan, check_edits_apply, make_plan
from sigmoid_vit.loop import ClassificationLoss, Loop
from sigmoid_vit.propagation import Teacher, propagate, save_predictions
from sigmoid_vit.runs import Run, build_model, data_config, make_accelerator, open_data, run_folder
from sigmoid_vit.store import EditStore
from sigmoid_vit.tables import logged, write_table
from sigmoid_vit.tracking import Tracker
from sigmoid_vit.weights import default_weights_path, load_checkpoint, load_into, save_checkpoint


class Trainer:
    """Trains the network of the settings on its data set and keeps the best and the last epoch."""

    def __init__(self, settings: Settings) -> None:
        self.settings = s = settings
        self.accelerator = a = make_accelerator(s)
        self.run = Run.open(s)
        self.edits_file = self.run.unused_edits if s.control == "no_edits" else self.run.edits
        trial = build_model(s, num_classes=2)  # settings and weights are known to be good before any data is
        if s.edits:  # fetched and before predicted edits are stored
            check_edits_apply(trial, s)
        weights = start_weights(s)
        if weights:
            load_checkpoint(weights)
        self.weights_sha256 = sha256(weights) if weights else ""
        with a.local_main_process_first():  # a download happens once on each machine
            data = open_data(s)
        torch.manual_seed(s.seed)
        self.model = build_model(s, len(data.classes))
        self.start = f"{weights}: {load_into(self.model, weights)}" if weights else "random weights"
        self.data_config = config = data_config(self.model)
        size = (s.img_size, s.img_size)
        prepare = dict(cache_gib=s.cache_gib, workers=s.workers, interpolation=config["interpolation"])
        self.train = data.train.prepare(size, **prepare)
        self.val = data.val.prepare(size, **prepare) if data.val else None
        self.classes, self.skipped = data.classes, data.skipped
        self.val_transform = BatchTransform(size, **config)
        self.edits, self.facts = None, {}  # edits of all training images; what config.json says of them
        loss, maps = ClassificationLoss(self.model, s.label_smoothing), None
        if s.edits:
            plan, edits = self._take_edits(data)
            if s.control != "no_edits":
                loss, maps = HITLLoss(self.model, s, plan.inject), edits
        self.loop = Loop(s, a, loss, self.train, self._train_transform(len(self.train)), maps)

    def _take_edits(self, data: DataModule) -> tuple[Plan, EditMaps]:
        """Read the edits of the training images and leave out the images that are not to be trained on."""
        s, part, grid = self.settings, self.train.part, tuple(self.model.patch_embed.grid_size)
        if s.resume and self.edits_file.exists():  # what the run began with, whatever became of the store
            self.edits = EditMaps.read(self.edits_file, part.ids)
        else:
            doubted = self._propagate(load_edits(s.edits, part, grid)[0]) if s.propagate == "true" else []
            maps, account = load_edits(s.edits, part, grid, s.propagate != "false", data)
            if s.doubted == "drop":
                maps.edited[doubted] = False
                account["doubted and dropped"] = len(doubted)
            self.edits = maps.shuffled(s.seed) if s.control == "shuffled" else maps
            self.facts["edits"] = account
        self.all_ids, edits = part.ids, self.edits
        plan = make_plan(s, part.labels, edits.has_edit, edits.erases, ~edits.predicted)
        if s.control == "no_edits":
            plan.says += f"; control: the {len(plan.images)} images alone, without edits"
        self.facts["plan"] = plan.says
        if self.accelerator.is_main_process:
            account = self.facts.get("edits")
            told = account_text(account) if account else "as the run began"
            if account and account["drawn for a narrower scope"]:
                told += "; EDIT_LAYERS and EDIT_QUERIES decide"
            print(f"edits: {told}; {plan.says}")
        self.train = self.train.subset(plan.images)
        return plan, edits.subset(plan.images)

    def _propagate(self, maps: EditMaps) -> list[int]:
        """Predict the edits of the other images into the store; the images whose own edits are doubted."""
        s, a = self.settings, self.accelerator
        if a.is_main_process:
            EditStore(s.edits).close()  # known to be free to write before the work
        teacher = Teacher(s, a, self.model, self.train, self._train_transform, self.val_transform)
        prediction = propagate(teacher, maps)
        if a.is_main_process:
            note = f"predicted from {maps.has_edit.sum()} edits, run {s.runs_name}"
            save_predictions(s.edits, self.train, prediction, note, self.weights_sha256)
            print(f"propagation: {prediction.says}")
        a.wait_for_everyone()
        self.facts["propagation"] = prediction.report
        return prediction.doubted

    def _train_transform(self, n: int) -> BatchTransform:
        s = self.settings
        augment = dict(hflip=s.hflip, crop_scale=s.crop_scale, seed=s.seed, n=n)
        return BatchTransform(s.img_size, **self.data_config, train=True, **augment)

    def fit(self) -> None:
        """Train for all epochs, or those that are left of a resumed run, into the run's folder."""
        s, run, main = self.settings, self.run, self.accelerator.is_main_process
        first, best = self._resume() if s.resume else (0, -1.0)
        tracker = Tracker(run.folder, s) if s.wandb and main else None  # before the run, as it may be refused
        if main:
            run.create(s, **self._facts())
            if self.edits and not self.edits_file.exists():
                self.edits.write(self.edits_file, self.all_ids)
            todo = f"epochs {first + 1} to {s.epochs}" if first < s.epochs else f"all {first} epochs are done"
            print(f"{run.folder}: {todo}, on {self.accelerator.device}", flush=True)
        with tracker or nullcontext():
            for epoch in range(first, s.epochs):
                line = self._one_epoch(epoch)
                score = self._score(line)
                if main:
                    self._save(line, score, best)
                if tracker:
                    tracker.log(line, self.model, self.val or self.train, self.val_transform, self.classes)
                best = max(best, score)
        if main:
            self._summary()
        self.accelerator.wait_for_everyone()

    def _score(self, line: dict) -> float:
        """What the best epoch is best in: validation accuracy, or with no validation part the latest.

        Step 2 keeps the latest as well: the validation part shares the cue that the edits take away, so its
        accuracy would choose the epoch that still uses it.
        """
        step_2 = self.settings.edits or self.settings.first_step
        return line["val_accuracy"] if self.val and not step_2 else float(line["epoch"])

    def _one_epoch(self, epoch: int) -> dict:
        start = time.perf_counter()
        line = {"epoch": epoch + 1, **self.loop.train_one_epoch(epoch)}
        line["images_per_s"] = round(len(self.train) / (time.perf_counter() - start), 1)
        if self.val:
            batch_size = self.settings.batch_size
            logits, labels = predict(self.model, self.val, self.val_transform, batch_size, self.accelerator)
            line["val_loss"] = F.cross_entropy(logits, labels).item()
            line["val_accuracy"] = (logits.argmax(1) == labels).double().mean().item()
        line["seconds"] = round(time.perf_counter() - start, 2)
        if torch.cuda.is_available():
            line["peak_memory_mib"] = torch.cuda.max_memory_allocated() // 2**20
        return line

    def _facts(self) -> dict:
        parts = {"train": len(self.train)} | ({"val": len(self.val)} if self.val else {})
        return {
            "classes": list(self.classes),
            "images": parts,
            "skipped": [str(bad) for bad in self.skipped],
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "processes": self.accelerator.num_processes,
            "start_weights": self.start,
            **self.facts,
            "data_config": self.data_config,
        }

    def _resume(self) -> tuple[int, float]:
        """Take up last.pt where there is one: the number of finished epochs and the best score so far."""
        checkpoint = self.run.checkpoint_to_resume(cut_log=self.accelerator.is_main_process)
        if checkpoint is None:
            return 0, -1.0
        self.model.load_state_dict(checkpoint["model"])
        self.loop.optimizer.optimizer.load_state_dict(checkpoint["optimizer"])
        return checkpoint["epoch"], checkpoint["best"]

    def _save(self, line: dict, score: float, best: float) -> None:
        """The log line first: a kill before last.pt is in place costs the epoch, never its checkpoint."""
        state = {"model": self.model.state_dict(), "epoch": line["epoch"]}
        self.run.log(line)
        if score > best:
            save_checkpoint(self.run.best, {**state, "val_accuracy": line.get("val_accuracy")})
        optimizer = self.loop.optimizer.optimizer.state_dict()
        save_checkpoint(self.run.last, {**state, "optimizer": optimizer, "best": max(best, score)})

    def _summary(self) -> None:
        run = self.run
        best = max(run.history(), key=self._score)
        figures = [f"{k} {v:.4f}" for k, v in best.items() if "accuracy" in k]
        print(f"best epoch {best['epoch']} of {self.settings.epochs}: {', '.join(figures)}")
        print(f"  {run.config}   settings, versions, commit")
        print(f"  {run.log_file}     a line per epoch")
        print(f"  {run.best}       weights of the best epoch")
        print(f"  {run.last}       weights and optimiser of the last epoch, for --resume")
        print(f"Evaluate it with: python3 src/evaluate.py --run {run.folder}")


def train(runs: list[Settings], table: str = "") -> None:
    """Train one run, or one after the other the runs of several seeds, and write those into one table.

    With RESUME, seeds that were not begun are started.

    Args:
        runs: the settings of each.
        table: its name beside the runs' folders; empty for a run that is not one of several seeds.
    """
    if table:
        runs = [replace(s, resume=s.resume and run_folder(s).exists()) for s in runs]
    for settings in runs:
        Run.open(settings)  # a folder that is taken is known before hours of work
    for settings in runs:
        trainer = Trainer(settings)
        trainer.fit()
    if table and trainer.accelerator.is_main_process:
        path = trainer.run.folder.with_name(table)
        print(write_table(path, {table: logged(run_folder(s) for s in runs)}))
        print(f"in {path}.md, .csv (each run) and .json (means)")
    trainer.accelerator.end_training()


def start_weights(settings: Settings) -> Path | None:
    """The weights file that the settings start from; None for random weights."""
    if settings.pretrained.lower() == "false":
        return None
    return Path(settings.pretrained) if settings.pretrained else default_weights_path(settings.model_name)
