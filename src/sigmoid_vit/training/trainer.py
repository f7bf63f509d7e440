"""The one trainer: settings in, a run folder out."""

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate.utils import broadcast, gather

from sigmoid_vit.data import DATASETS, DataModule, look_alikes
from sigmoid_vit.errors import UserError
from sigmoid_vit.files import sha256, write_json
from sigmoid_vit.model.checkpoints import default_weights_path, load_checkpoint, load_into, save_checkpoint
from sigmoid_vit.runs.folder import Run, open_data, run_folder
from sigmoid_vit.runs.kept_images import KeptImages
from sigmoid_vit.runs.network import Network, build_model, make_accelerator
from sigmoid_vit.runs.settings import Settings
from sigmoid_vit.runs.tables import logged, write_table
from sigmoid_vit.training.advice import few_updates, majority_classifier
from sigmoid_vit.training.alignment import HITLLoss, check_edits_apply
from sigmoid_vit.training.attention_share import attention_share, summary
from sigmoid_vit.training.interruption import Interruption, Stopped, end_with_launcher, others_answer
from sigmoid_vit.training.loop import ClassificationLoss, Loop, Progress
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
        data = None if DATASETS[s.dataset].downloads else self._open_data()  # a wrong path is known first
        if weights:
            load_checkpoint(weights)
        if data is None:
            with a.local_main_process_first():  # a download happens once on each machine
                data = self._open_data()
        torch.manual_seed(s.seed)
        self.network = Network.new(s, list(data.classes), a)
        self.start = "random weights"
        if weights:
            self.start = f"{weights}: {load_into(self.network.model, weights)}"
        self.train = self.network.prepare(data.train)
        self.val = self.network.prepare(data.val) if data.val else None
        self.value_range = data.value_range.as_dict()  # both parts are decoded now
        if self.value_range and a.is_main_process:
            whites = ", ".join(f"{value:g} ({kind})" for kind, value in self.value_range.items())
            print(f"images of more than 8 bits: black is 0, white is {whites}, as the training images say")
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
        if a.is_main_process and (told := few_updates(self.loop.updates_per_epoch, len(self.train), s)):
            print(told, file=sys.stderr)

    def _open_data(self) -> DataModule:
        """The data set: with the images that the run, or FIRST_STEP, has in its parts; or cut anew in Step 1.

        Raises:
            UserError: a run that is resumed would go on with other images.
        """
        s, resumed = self.settings, self.run.config.exists()
        first = Run(s.first_step) if s.first_step else None
        if not resumed and (not first or first.settings().dataset != s.dataset):
            return open_data(s)
        data, changes = (self.run if resumed else first).open_data_and_changes(settings=s)
        if resumed and self.accelerator.is_main_process and (told := self.run.made_otherwise()):
            print(f"note: {told}: the result may differ from that of an uninterrupted run", file=sys.stderr)
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
        """Train for all epochs, or those that are left of a resumed run, into the run's folder.

        Raises:
            Stopped: a signal asked for it; last.pt holds all updates so far.
        """
        s, run, main = self.settings, self.run, self.accelerator.is_main_process
        first, best, begun = self._resume() if s.resume else (0, -1.0, None)
        log = self._open_wandb() if s.wandb and main else None  # before the run, as it may be refused
        if main:
            self._create_folder()
            todo = f"epochs {first + 1} to {s.epochs}" if first < s.epochs else f"all {first} epochs are done"
            print(f"{run.folder}: {todo}, on {self.accelerator.device}", flush=True)
        with log or nullcontext(), Interruption() as self.interruption:
            for epoch in range(first, s.epochs):
                line = self._one_epoch(epoch, best, begun)
                score, begun = self._score(line), None
                if main:
                    self._save(line, score, best)
                if log:
                    log.log(line, self.network, self.val or self.train)
                best = max(best, score)
                if epoch + 1 < s.epochs and (number := self._asked_to_stop()):
                    raise Stopped(number, f"after epoch {epoch + 1} of {s.epochs}; {self._how_to_go_on()}")
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
        """What the best epoch is best in: validation accuracy, or where that chooses nothing the latest."""
        return line["val_accuracy"] if self.val and self.settings.val_chooses else float(line["epoch"])

    def _one_epoch(self, epoch: int, best: float, begun: Progress | None) -> dict:
        """Train and validate: a line of the log. Within the epoch, last.pt is written as often as asked."""
        s, start, saved = self.settings, time.perf_counter(), time.monotonic()

        def after_update(progress: Progress) -> None:
            nonlocal saved
            number = self._asked_to_stop()
            if number or self._agreed(time.monotonic() - saved >= 60 * s.checkpoint_minutes):
                progress.totals = self.accelerator.reduce(progress.totals)
                if self.accelerator.is_main_process:
                    self._save_last(epoch, best, progress)
                saved = time.monotonic()
            if number:
                done = (
                    f"in epoch {epoch + 1}, after {progress.updates} of {self.loop.updates_per_epoch} updates"
                )
                raise Stopped(number, f"{done}; {self._how_to_go_on()}")

        line = {"epoch": epoch + 1, **self.loop.train_one_epoch(epoch, begun, after_update)}
        trained = len(self.train) - (begun.updates * s.batch_size if begun else 0)
        line["images_per_s"] = round(trained / (time.perf_counter() - start), 1)
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
            "stored_size": list(self.train.size),
            "value_range": self.value_range,
        }

    def _asked_to_stop(self) -> int:
        """The signal that asked any of the processes to stop; 0: none."""
        number = self.interruption.number
        if self.accelerator.num_processes == 1:
            return number
        return int(gather(torch.tensor([number], device=self.accelerator.device)).max())

    def _agreed(self, due: bool) -> bool:
        """What the first process says, in all of them."""
        if self.accelerator.num_processes == 1:
            return due
        return bool(broadcast(torch.tensor([due], device=self.accelerator.device))[0])

    def _how_to_go_on(self) -> str:
        return f"nothing is lost: RESUME=true (--resume) with the same settings goes on from {self.run.last}"

    def _resume(self) -> tuple[int, float, Progress | None]:
        """Take up last.pt where there is one: finished epochs, best score, and what the next one has done."""
        checkpoint = self.run.checkpoint_to_resume(cut_log=self.accelerator.is_main_process)
        if checkpoint is None:
            return 0, -1.0, None
        self.network.model.load_state_dict(checkpoint["model"])
        self.loop.optimizer.optimizer.load_state_dict(checkpoint["optimizer"])
        begun = checkpoint.get("begun")
        return checkpoint["epoch"], checkpoint["best"], Progress(*begun) if begun else None

    def _save(self, line: dict, score: float, best: float) -> None:
        """The log line first: a kill before last.pt is in place costs the epoch, never its checkpoint."""
        state = {"model": self.network.model.state_dict(), "epoch": line["epoch"]}
        self.run.log(line)
        if score > best:
            save_checkpoint(self.run.best, {**state, "val_accuracy": line.get("val_accuracy")})
        self._save_last(line["epoch"], max(best, score))

    def _save_last(self, epoch: int, best: float, begun: Progress | None = None) -> None:
        """Write last.pt: the weights and the optimiser after so many epochs and a part of the next one."""
        state = {"model": self.network.model.state_dict(), "epoch": epoch, "best": best}
        state["optimizer"] = self.loop.optimizer.optimizer.state_dict()
        if begun:
            state["begun"] = [begun.updates, begun.totals.cpu()]
        save_checkpoint(self.run.last, state, previous=self.run.previous)

    def _summary(self) -> None:
        run = self.run
        best = max(run.history(), key=self._score)
        injected = bool(self.edits) and self.settings.control != "no_edits" and self.edits.plan.inject
        names = {"accuracy": f"training accuracy{' with the edits in force' * injected}"}
        figures = [f"{names.get(k, k)} {v:.4f}" for k, v in best.items() if "accuracy" in k]
        print(f"kept epoch {best['epoch']} of {self.settings.epochs}: {', '.join(figures)}")
        if self.val and (told := majority_classifier(best["val_accuracy"], self.val.part)):
            print(told, file=sys.stderr)
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
    end_with_launcher()
    if table:
        runs = [replace(s, resume=s.resume and run_folder(s).exists()) for s in runs]
    for settings in runs:
        Run.open(settings)  # a folder that is taken is known before hours of work
    for settings in runs:
        with Run(run_folder(settings)).claimed():
            trainer = Trainer(settings)
            with others_answer(trainer.accelerator.num_processes, settings):
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
