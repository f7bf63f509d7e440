"""The one trainer: settings in, a run folder out."""

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from sigmoid_vit.data import DataModule, look_alikes
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_json
from sigmoid_vit.model.checkpoints import default_weights_path, load_checkpoint, load_into, save_checkpoint
from sigmoid_vit.runs.folder import Run, open_data, run_folder
from sigmoid_vit.runs.kept_images import KeptImages
from sigmoid_vit.runs.network import Network, build_model, make_accelerator
from sigmoid_vit.runs.settings import Settings
from sigmoid_vit.runs.tables import logged, write_table
from sigmoid_vit.training.alignment import HITLLoss, check_edits_apply
from sigmoid_vit.training.attention_share import attention_share, summary
from sigmoid_vit.training.loop import ClassificationLoss, Loop
from sigmoid_vit.training.step2_edits import TrainingEdits, edits_file, take_edits


class Trainer:
    """Trains the network of the settings on its data set and keeps the best and the last epoch.

    `prepare` reads images, weights and edits; with PROPAGATE=true it writes propagated edits into the store.
    `fit` trains.

    Raises:
        UserError: the run's folder is taken, or cannot be resumed with these settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.run = settings, Run.open(settings)
        self.accelerator = make_accelerator(settings)

    def prepare(self) -> None:
        """Read all that training needs; bad settings and weights are known before any data is fetched."""
        s, a = self.settings, self.accelerator
        trial = build_model(s, num_classes=2)
        if s.edits:
            check_edits_apply(trial, s)
        weights = start_weights(s)
        if weights:
            load_checkpoint(weights)
        with a.local_main_process_first():  # a download happens once on each machine
            data = self._open_data()
        torch.manual_seed(s.seed)
        self.network = Network.new(s, list(data.classes), a)
        self.start = "random weights"
        if weights:
            self.start = f"{weights}: {load_into(self.network.model, weights)}"
        self.train = self.network.prepare(data.train)
        self.val = self.network.prepare(data.val) if data.val else None
        self.skipped, self.all_ids = data.skipped, self.train.part.ids
        if a.is_main_process:
            self.kept = KeptImages.of(self.train.part, self.val and self.val.part, data.all_ids)
        self.look_alikes = self._look_alikes()
        self.edits: TrainingEdits | None = None
        if s.edits:
            digest = sha256(weights) if weights else ""
            self.edits = take_edits(self.network, self.train, data, self.run, digest)
            self.train = self.train.subset(self.edits.plan.images)
            self.maps = self.edits.maps.subset(self.edits.plan.images)
        self.share_before = self._attention_share()
        self.loop = self._make_loop()

    def _open_data(self) -> DataModule:
        """The data set: with the images that the run, or FIRST_STEP, has in its parts; or cut anew in Step 1.

        Raises:
            UserError: a run that is resumed would go on with other images.
        """
        s, resumed = self.settings, self.run.config.exists()
        first = Run(s.first_step) if s.first_step else None
        if not resumed and (not first or first.settings().dataset != s.dataset):
            return open_data(s)
        data, changes = (self.run if resumed else first).open_data_and_changes(settings=s, content=True)
        if resumed and changes.harmful:
            raise UserError(
                f"{self.run.folder} cannot be resumed, because its images are not what they were: "
                f"{'; '.join(changes.harmful)}. Restore them, or start a new run"
            )
        return data

    def _look_alikes(self) -> list[tuple[str, str, float]] | None:
        """Validation images that look like a training image, told in Step 1; None: not looked for."""
        if not self.val or self.train.images is None or self.val.images is None:
            return None
        found = look_alikes(self.val, self.train)
        if found and not self.settings.first_step and self.accelerator.is_main_process:
            first = "; ".join(f"{own} and {other} ({value})" for own, other, value in found[:3])
            print(
                f"{len(found)} of {len(self.val)} validation images look like a training image, the nearest: "
                f"{first}. Where they show the same thing, the validation accuracy is too good: say which "
                "images belong together with GROUP_BY, or move them to one side (all are in config.json)"
            )
        return found

    def _make_loop(self) -> Loop:
        """The loop of Step 1, or of Step 2 where there are edits to learn from."""
        s, network, maps = self.settings, self.network, None
        loss = ClassificationLoss(network.model, s.label_smoothing)
        if self.edits and s.control != "no_edits":
            loss, maps = HITLLoss(network.model, s, self.edits.plan.inject), self.maps
        transform = network.train_transform(len(self.train))
        return Loop(s, self.accelerator, loss, self.train, transform, maps)

    def _attention_share(self) -> dict | None:
        """What `attention_share` says of the network as it is, in the main process; None in Step 1."""
        if self.edits is None or not self.accelerator.is_main_process:
            return None
        return attention_share(self.network, self.train, self.maps)

    def fit(self) -> None:
        """Train for all epochs, or those that are left of a resumed run, into the run's folder."""
        s, run, main = self.settings, self.run, self.accelerator.is_main_process
        first, best = self._resume() if s.resume else (0, -1.0)
        log = self._open_wandb() if s.wandb and main else None  # before the run, as it may be refused
        if main:
            self._create_folder()
            todo = f"epochs {first + 1} to {s.epochs}" if first < s.epochs else f"all {first} epochs are done"
            print(f"{run.folder}: {todo}, on {self.accelerator.device}", flush=True)
        with log or nullcontext():
            for epoch in range(first, s.epochs):
                line = self._one_epoch(epoch)
                score = self._score(line)
                if main:
                    self._save(line, score, best)
                if log:
                    log.log(line, self.network, self.val or self.train)
                best = max(best, score)
        if main:
            self._summary()
        self.accelerator.wait_for_everyone()

    def _open_wandb(self):
        from sigmoid_vit.training.wandb_log import WandbLog  # brings matplotlib and wandb

        return WandbLog(self.run.folder, self.settings)

    def _create_folder(self) -> None:
        self.run.create(self.settings, self.kept, **self._facts())
        if self.edits:
            kept = edits_file(self.run, self.settings.control)
            if not kept.exists():
                self.edits.maps.write(kept, self.all_ids)

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
            logits = self.network.logits(self.val, self.settings.batch_size)
            labels = torch.from_numpy(self.val.part.labels)
            line["val_loss"] = F.cross_entropy(logits, labels).item()
            line["val_accuracy"] = (logits.argmax(1) == labels).double().mean().item()
        line["seconds"] = round(time.perf_counter() - start, 2)
        if torch.cuda.is_available():
            line["peak_memory_mib"] = torch.cuda.max_memory_allocated() // 2**20
        return line

    def _facts(self) -> dict:
        parts = {"train": len(self.train)} | ({"val": len(self.val)} if self.val else {})
        return {
            "classes": self.network.classes,
            "images": parts,
            "look_alikes": self.look_alikes,
            "skipped": [str(bad) for bad in self.skipped],
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "processes": self.accelerator.num_processes,
            "start_weights": self.start,
            **(self.edits.facts if self.edits else {}),
            "data_config": self.network.input_config,
        }

    def _resume(self) -> tuple[int, float]:
        """Take up last.pt where there is one: the number of finished epochs and the best score so far."""
        checkpoint = self.run.checkpoint_to_resume(cut_log=self.accelerator.is_main_process)
        if checkpoint is None:
            return 0, -1.0
        self.network.model.load_state_dict(checkpoint["model"])
        self.loop.optimizer.optimizer.load_state_dict(checkpoint["optimizer"])
        return checkpoint["epoch"], checkpoint["best"]

    def _save(self, line: dict, score: float, best: float) -> None:
        """The log line first: a kill before last.pt is in place costs the epoch, never its checkpoint."""
        state = {"model": self.network.model.state_dict(), "epoch": line["epoch"]}
        self.run.log(line)
        if score > best:
            save_checkpoint(self.run.best, {**state, "val_accuracy": line.get("val_accuracy")})
        optimizer = self.loop.optimizer.optimizer.state_dict()
        save_checkpoint(self.run.last, {**state, "optimizer": optimizer, "best": max(best, score)})

    def _summary(self) -> None:
        run = self.run
        best = max(run.history(), key=self._score)
        injected = bool(self.edits) and self.settings.control != "no_edits" and self.edits.plan.inject
        names = {"accuracy": f"training accuracy{' with the edits in force' * injected}"}
        figures = [f"{names.get(k, k)} {v:.4f}" for k, v in best.items() if "accuracy" in k]
        print(f"kept epoch {best['epoch']} of {self.settings.epochs}: {', '.join(figures)}")
        if before := self.share_before:
            after, aligned = self._attention_share(), self.settings.control != "no_edits"
            write_json(run.attention_share, {"before": before, "after": after})
            print(summary(before, after, aligned and self.settings.attn_lambda > 0))
        print(f"  {run.config}   settings, versions, commit")
        print(f"  {run.log_file}     a line per epoch")
        print(f"  {run.best}       weights of the kept epoch")
        print(f"  {run.last}       weights and optimiser of the last epoch, for RESUME=true")
        first = self.settings.first_step
        against = f" --against {first}" if first else ""
        print(f"Evaluate it with: python3 src/evaluate.py --run {run.folder}{against}")


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
        trainer.prepare()
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
