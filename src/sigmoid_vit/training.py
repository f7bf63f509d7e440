"""The one trainer: settings in, a run folder out."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from tqdm import tqdm

from sigmoid_vit.config import Settings
from sigmoid_vit.data import BatchTransform, epoch_batches, load_data
from sigmoid_vit.errors import UserError
from sigmoid_vit.evaluation import predict
from sigmoid_vit.hitl import HITLLoss, load_edits, plan
from sigmoid_vit.runs import Run, build_model, data_config, make_accelerator
from sigmoid_vit.tracking import Tracker
from sigmoid_vit.weights import default_weights_path, load_checkpoint, load_into, save_checkpoint


class ClassificationLoss(nn.Module):
    """The network and its loss in one module, so that every parallel wrapper sees one forward pass."""

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] and labels [B] to each image's loss [B] and class logits [B, num_classes]."""
        class_logits = self.model(images)
        loss = F.cross_entropy(class_logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        return loss, class_logits


@dataclass
class Share:
    """One process's part of a micro-batch."""

    index: np.ndarray  # positions in the training part, at least one
    weight: float  # of each image's loss, so that all gradients of a batch add up to its mean; 0 for padding
    last: bool  # the update follows


def shares(batches: list[np.ndarray], parts: int, rank: int, world: int) -> list[Share]:
    """Split every batch into `parts` micro-batches and those among `world` processes.

    A process that would be left without images takes one with weight 0, so that all processes take part in
    every step and the sum over processes is the mean over the batch, whatever their number.
    """
    result = []
    for batch in batches:
        for i, micro in enumerate(np.array_split(batch, parts)):
            index = micro[rank::world]
            weight = world / len(batch) if len(index) else 0.0  # parallel wrappers average over processes
            result.append(Share(index if len(index) else batch[:1], weight, last=i == parts - 1))
    return result


class Trainer:
    """Trains the network of the settings on its data set and keeps the best and the last epoch."""

    def __init__(self, settings: Settings) -> None:
        self.settings = s = settings
        self.accelerator = a = make_accelerator(s)
        self.run = Run.open(s)
        build_model(s, num_classes=2)  # settings and weights are known to be good before any data is fetched
        weights = start_weights(s)
        if weights:
            load_checkpoint(weights)
        with a.local_main_process_first():  # a download happens once on each machine
            data = load_data(s.dataset, s.dataset_path, s.val_fraction, s.seed, s.skip_bad_images)
        torch.manual_seed(s.seed)
        self.model = build_model(s, len(data.classes))
        self.start = f"{weights}: {load_into(self.model, weights)}" if weights else "random weights"
        self.data_config = config = data_config(self.model)
        size = (s.img_size, s.img_size)
        prepare = dict(cache_gib=s.cache_gib, workers=s.workers, interpolation=config["interpolation"])
        self.train = data.train.prepare(size, **prepare)
        self.val = data.val.prepare(size, **prepare) if data.val else None
        self.maps, self.plan, self.edits_account = None, None, None
        if s.edits and s.control != "no_edits":
            self._take_edits()
        augment = dict(hflip=s.hflip, crop_scale=s.crop_scale, seed=s.seed, n=len(self.train))
        self.train_transform = BatchTransform(size, **config, train=True, **augment)
        self.val_transform = BatchTransform(size, **config)
        self.classes, self.skipped = data.classes, data.skipped
        self._build_optimisation()

    def _take_edits(self) -> None:
        """Read the edits of the training images and leave out the images that are not to be trained on."""
        s, part = self.settings, self.train.part
        self.maps, self.edits_account = load_edits(s.edits, part, tuple(self.model.patch_embed.grid_size))
        if s.control == "shuffled":
            self.maps = self.maps.shuffled(s.seed)
        self.plan = plan(s, part.labels, self.maps.has_edit)
        chosen, images = self.plan.images, self.train.images
        images = images if images is None else images[torch.from_numpy(chosen)]
        self.train, self.maps = (
            replace(self.train, part=part.subset(chosen), images=images),
            self.maps.subset(chosen),
        )
        if self.accelerator.is_main_process:
            print(f"edits: {self.edits_account}; {self.plan.says}")

    def _build_optimisation(self) -> None:
        s, loss = self.settings, ClassificationLoss(self.model, self.settings.label_smoothing)
        if self.maps:
            loss = HITLLoss(self.model, s, self.plan.inject)
        self.hitl_loss = loss if self.maps else None
        optimizer = create_optimizer_v2(self.model, opt=s.opt, lr=s.lr, weight_decay=s.weight_decay)
        if s.compile:
            loss = torch.compile(loss)
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.updates_per_epoch = math.ceil(len(self.train) / s.batch_size)
        total = self.updates_per_epoch * s.epochs
        self.scheduler = CosineLRScheduler(
            self.optimizer.optimizer,
            t_initial=total,
            warmup_t=round(s.warmup * total),
            warmup_lr_init=s.lr / 100,
            lr_min=s.lr / 1000,
            t_in_epochs=False,
        )

    def fit(self) -> None:
        """Train for all epochs, or those that are left of a resumed run, into the run's folder."""
        s, run, main = self.settings, self.run, self.accelerator.is_main_process
        first, best = self._resume() if s.resume else (0, -1.0)
        tracker = Tracker(run.folder, s) if s.wandb and main else None  # before the run, as it may be refused
        if main:
            run.create(s, **self._facts())
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
        self.accelerator.end_training()

    def _score(self, line: dict) -> float:
        """What the best epoch is best in: validation accuracy, or with no validation part the latest.

        Step 2 keeps the latest as well: the validation part shares the cue that the edits take away, so its
        accuracy would choose the epoch that still uses it.
        """
        step_2 = self.settings.edits or self.settings.first_step
        return line["val_accuracy"] if self.val and not step_2 else float(line["epoch"])

    def _one_epoch(self, epoch: int) -> dict:
        start = time.perf_counter()
        line = {"epoch": epoch + 1, **self.train_one_epoch(epoch)}
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

    def train_one_epoch(self, epoch: int) -> dict:
        """One pass over the training images: mean loss, accuracy and the last learning rate.

        Raises:
            UserError: the loss or its gradient is not finite; the weights are those before that update.
        """
        s, a = self.settings, self.accelerator
        # random numbers are a function of (seed, epoch, process): a resumed run draws the same
        torch.manual_seed(
            np.random.SeedSequence([s.seed, epoch, a.process_index]).generate_state(1)[0].item()
        )
        self.loss.train()
        if self.hitl_loss:
            self.hitl_loss.start_epoch(epoch)
        batches = epoch_batches(len(self.train), s.batch_size, s.seed, epoch)
        totals = torch.zeros(3, dtype=torch.float64, device=a.device)  # loss, correct, images of this process
        batch_loss, step = 0.0, 0
        bar = tqdm(total=len(batches), desc=f"epoch {epoch + 1}/{s.epochs}", disable=not a.is_main_process)
        for share, images, labels, index in self._train_batches(batches):
            with nullcontext() if share.last else a.no_sync(self.loss):
                x, *edits = self._moved(images, index, epoch)
                losses, class_logits = self.loss(x, labels, *edits)
                loss = losses.sum() * share.weight
                a.backward(loss)
            batch_loss += loss.detach()
            if share.weight:
                correct = (class_logits.argmax(1) == labels).sum()
                totals += torch.stack(
                    [losses.detach().sum(), correct, torch.tensor(len(index), device=a.device)]
                )
            if share.last:
                self._update(epoch, step, batch_loss)
                batch_loss, step = 0.0, step + 1
                _show(bar, totals * a.num_processes)
        bar.close()
        loss, correct, images = a.reduce(totals).tolist()
        return {
            "loss": loss / images,
            "accuracy": correct / images,
            "lr": self.optimizer.param_groups[0]["lr"],
        }

    def _train_batches(self, batches: list[np.ndarray]) -> Iterator[tuple[Share, Tensor, Tensor, Tensor]]:
        a = self.accelerator
        mine = shares(batches, self.settings.grad_accum, a.process_index, a.num_processes)
        for share, batch in zip(mine, self.train.batches([share.index for share in mine]), strict=True):
            yield share, *(t.to(a.device, non_blocking=True) for t in batch)

    def _moved(self, images: Tensor, index: Tensor, epoch: int) -> list[Tensor]:
        """The network's input, and with edits the maps moved with it: value and edited, [B, gh, gw]."""
        if self.maps is None:
            return [self.train_transform(images, index, epoch)]
        at, device = index.cpu(), images.device
        cover = self.maps.edited[at].float().to(device)
        value = self.maps.value[at].to(device) * cover  # unedited cells carry no weight when cells are mixed
        x, value, cover = self.train_transform.with_maps(images, index, epoch, value, cover)
        return [x, (value / cover.clamp(min=1e-6)).clamp(0, 1), cover >= 0.5]

    def _update(self, epoch: int, step: int, batch_loss: Tensor) -> None:
        s, a = self.settings, self.accelerator
        self.scheduler.step_update(epoch * self.updates_per_epoch + step)
        norm = a.clip_grad_norm_(self.loss.parameters(), s.clip_grad)
        if not torch.isfinite(batch_loss + norm):
            raise UserError(
                f"the loss is not finite in epoch {epoch + 1}, step {step + 1} (loss {batch_loss.item():g}, "
                f"gradient norm {norm.item():g}); {self.run.folder} keeps the epochs before it: lower LR and "
                "train anew under another RUNS_NAME"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _facts(self) -> dict:
        parts = {"train": len(self.train)} | ({"val": len(self.val)} if self.val else {})
        return {
            "classes": list(self.classes),
            "images": parts,
            "skipped": [str(bad) for bad in self.skipped],
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "processes": self.accelerator.num_processes,
            "start_weights": self.start,
            **({"edits": self.edits_account, "plan": self.plan.says} if self.maps else {}),
            "data_config": self.data_config,
        }

    def _resume(self) -> tuple[int, float]:
        """Take up last.pt where there is one: the number of finished epochs and the best score so far."""
        checkpoint = self.run.checkpoint_to_resume(cut_log=self.accelerator.is_main_process)
        if checkpoint is None:
            return 0, -1.0
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.optimizer.load_state_dict(checkpoint["optimizer"])
        return checkpoint["epoch"], checkpoint["best"]

    def _save(self, line: dict, score: float, best: float) -> None:
        """The log line first: a kill before last.pt is in place costs the epoch, never its checkpoint."""
        state = {"model": self.model.state_dict(), "epoch": line["epoch"]}
        self.run.log(line)
        if score > best:
            save_checkpoint(self.run.best, {**state, "val_accuracy": line.get("val_accuracy")})
        optimizer = self.optimizer.optimizer.state_dict()
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


def start_weights(settings: Settings) -> Path | None:
    """The weights file that the settings start from; None for random weights."""
    if settings.pretrained.lower() == "false":
        return None
    return Path(settings.pretrained) if settings.pretrained else default_weights_path(settings.model_name)


def _show(bar: tqdm, totals: Tensor) -> None:
    """Advance the bar by one update; totals are loss, correct and images so far."""
    if bar.disable:
        return
    loss, correct, images = totals.tolist()
    speed = images / max(time.time() - bar.start_t, 1e-9)
    figures = {
        "loss": f"{loss / images:.4f}",
        "accuracy": f"{correct / images:.3f}",
        "images/s": f"{speed:.0f}",
    }
    bar.set_postfix(figures, refresh=False)
    bar.update()
