"""The training loop of Step 1 and Step 2."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from tqdm import tqdm

from sigmoid_vit.data import BatchTransform, Prepared, epoch_batches
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.settings import Settings


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
class MicroBatch:
    """The images of one forward and backward pass in one process."""

    index: np.ndarray  # positions in the training part, at least one
    weight: float  # of each image's loss, so that all gradients of a batch add up to its mean; 0 for padding
    last: bool  # the update follows


def micro_batches(batches: list[np.ndarray], parts: int, rank: int, world: int) -> list[MicroBatch]:
    """Split every batch into `parts` micro-batches and those among `world` processes.

    A process that would be left without images takes one with weight 0, so that all processes take part in
    every step and the sum over processes is the mean over the batch, whatever their number.
    """
    result = []
    for batch in batches:
        for i, micro in enumerate(np.array_split(batch, parts)):
            index = micro[rank::world]
            weight = world / len(batch) if len(index) else 0.0  # parallel wrappers average over processes
            result.append(MicroBatch(index if len(index) else batch[:1], weight, last=i == parts - 1))
    return result


@dataclass
class Progress:
    """How far a pass over the training images is."""

    updates: int  # done in this epoch
    totals: (
        Tensor | list[float]
    )  # sums over the images so far: loss, correct, images; of one process or of all


class Loop:
    """Passes over the images of a part that minimise a loss, with the optimiser and schedule of the settings.

    Args:
        loss: a module with the network as `.model`; images, labels and, with `maps`, edits to each image's
            loss [B] and class logits [B, num_classes].
        train: the images.
        transform: from uint8 batches to the network's input, moving the maps with it.
        maps: the edits of the images of `train`, or None.
        name: what the progress bar calls an epoch; None shows no bar.
    """

    def __init__(
        self,
        settings: Settings,
        accelerator: Accelerator,
        loss: nn.Module,
        train: Prepared,
        transform: BatchTransform,
        maps: EditMaps | None = None,
        name: str | None = "epoch",
    ) -> None:
        self.settings, self.accelerator, self.name = settings, accelerator, name
        self.train, self.transform, self.maps = train, transform, maps
        s, self.seed_loss = settings, getattr(loss, "seed", lambda seed: None)
        optimizer = create_optimizer_v2(loss.model, opt=s.opt, lr=s.lr, weight_decay=s.weight_decay)
        self.loss, self.optimizer = accelerator.prepare(torch.compile(loss) if s.compile else loss, optimizer)
        self.updates_per_epoch = math.ceil(len(train) / s.batch_size)
        total = self.updates_per_epoch * s.epochs
        self.scheduler = CosineLRScheduler(
            self.optimizer.optimizer,
            t_initial=total,
            warmup_t=round(s.warmup * total),
            warmup_lr_init=s.lr / 100,
            lr_min=s.lr / 1000,
            t_in_epochs=False,
        )

    def train_one_epoch(
        self,
        epoch: int,
        begun: Progress | None = None,
        after_update: Callable[[Progress], None] = lambda _: None,
    ) -> dict:
        """One pass over the training images: mean loss, accuracy and the last learning rate.

        Args:
            epoch: counted from 0.
            begun: how far the pass came before the run was stopped; it goes on behind that.
            after_update: called behind each update but the last one with how far the pass is. What it raises
                ends the pass.

        Raises:
            UserError: the loss or its gradient is not finite; the weights are those before that update.
        """
        s, a = self.settings, self.accelerator
        self.loss.train()
        batches = epoch_batches(len(self.train), s.batch_size, s.seed, epoch)
        totals = torch.zeros(3, dtype=torch.float64, device=a.device)  # loss, correct, images of this process
        batch_loss, step = 0.0, begun.updates if begun else 0
        if begun and a.is_main_process:
            totals += begun.totals.to(a.device)
        hidden = self.name is None or not a.is_main_process
        title = f"{self.name} {epoch + 1}/{s.epochs}"
        self._seed(epoch, step)
        with tqdm(total=len(batches), initial=step, desc=title, disable=hidden) as bar:
            for micro, images, labels, index in self._batches(batches[step:]):
                with nullcontext() if micro.last else a.no_sync(self.loss):
                    losses, class_logits = self.loss(*self.moved(images, labels, index, epoch))
                    loss = losses.sum() * micro.weight
                    a.backward(loss)
                batch_loss += loss.detach()
                if micro.weight:
                    correct = (class_logits.argmax(1) == labels).sum()
                    totals += torch.stack(
                        [losses.detach().sum(), correct, torch.tensor(len(index), device=a.device)]
                    )
                if micro.last:
                    self._update(epoch, step, batch_loss)
                    batch_loss, step = 0.0, step + 1
                    _show(bar, totals * a.num_processes)
                    self._seed(epoch, step)
                    if step < len(batches):
                        after_update(Progress(step, totals.clone()))
        loss, correct, images = a.reduce(totals).tolist()
        return {
            "loss": loss / images,
            "accuracy": correct / images,
            "lr": self.optimizer.param_groups[0]["lr"],
        }

    def _seed(self, epoch: int, step: int) -> None:
        """Random numbers are a function of (seed, epoch, update, process): a resumed run draws the same."""
        place = [self.settings.seed, epoch, step]
        for entropy, seed in (
            (place, self.seed_loss),
            ([*place, self.accelerator.process_index], torch.manual_seed),
        ):
            seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def moved(self, images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> list[Tensor]:
        """What the loss takes: input, labels, and the maps moved alike, value and edited [B, gh, gw]."""
        if self.maps is None:
            return [self.transform(images, index, epoch), labels]
        at, device = index.cpu(), images.device
        cover = self.maps.edited[at].float().to(device)
        value = self.maps.value[at].to(device) * cover  # unedited cells carry no weight when cells are mixed
        x, value, cover = self.transform.with_maps(images, index, epoch, value, cover)
        return [x, labels, (value / cover.clamp(min=1e-6)).clamp(0, 1), cover >= 0.5]

    def _batches(self, batches: list[np.ndarray]) -> Iterator[tuple[MicroBatch, Tensor, Tensor, Tensor]]:
        a = self.accelerator
        mine = micro_batches(batches, self.settings.grad_accum, a.process_index, a.num_processes)
        for micro, batch in zip(mine, self.train.batches([micro.index for micro in mine]), strict=True):
            yield micro, *(t.to(a.device, non_blocking=True) for t in batch)

    def _update(self, epoch: int, step: int, batch_loss: Tensor) -> None:
        s, a = self.settings, self.accelerator
        self.scheduler.step_update(epoch * self.updates_per_epoch + step)
        norm = a.clip_grad_norm_(self.loss.parameters(), s.clip_grad)
        if not torch.isfinite(batch_loss + norm):
            raise UserError(
                f"the loss is not finite in epoch {epoch + 1}, step {step + 1} (loss {batch_loss.item():g}, "
                f"gradient norm {norm.item():g}); lower LR and train anew under another RUNS_NAME "
                "(the epochs before it are kept)"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()


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
