"""A network with what brings images to it: the one owner of its transform, its device and its precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import timm.data
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather
from torch import Tensor

from sigmoid_vit.data import BatchTransform, Part, Prepared, group_numbers
from sigmoid_vit.data.images import decode, upright_size
from sigmoid_vit.errors import UserError
from sigmoid_vit.model.checkpoints import load_into
from sigmoid_vit.model.decision import decision_map
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.model.families import create_model
from sigmoid_vit.model.readout import AttentionMaps, attention_maps, sigmoid_attention
from sigmoid_vit.model.vit import EditableViT
from sigmoid_vit.model.weights import stock_model
from sigmoid_vit.runs import ranking
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.settings import Settings

MOST_AT_A_TIME = 256  # images predicted in one batch, unless asked for
LOGITS_MEMORY = 2**30  # bytes of attention logits that one batch may take where all N x N are read
EXACT_CELLS = 100  # of a grid, up to which decision maps are exact; erasing more of them one by one is slow


@dataclass
class Network:
    """A network, the settings that say how images reach it, and where it computes.

    Args:
        model: is moved to the device.
        classes: the names of its classes.
        accelerator: device, processes and precision; a process has one. None computes in float32 on the GPU
            where there is one.
        run: the run whose network it is, if it is one's already.
        which: the checkpoint, "best" or "last".
    """

    model: EditableViT
    settings: Settings
    classes: list[str]
    accelerator: Accelerator | None = None
    run: Run | None = None
    which: str = "best"

    def __post_init__(self) -> None:
        self.model.to(self.device)

    @classmethod
    def new(cls, settings: Settings, classes: list[str], accelerator: Accelerator | None = None) -> Network:
        """The network that the settings describe, with random weights."""
        return cls(build_model(settings, len(classes)), settings, classes, accelerator)

    @classmethod
    def of_run(cls, run: Run, which: str = "best", accelerator: Accelerator | None = None) -> Network:
        """The network of a run's best (or "last") epoch, in eval mode."""
        settings, classes = run.settings(), run.classes
        model = build_model(settings, len(classes))
        load_into(model, run.folder / f"{which}.pt", new_head=False)
        return cls(model.eval(), settings, classes, accelerator, run, which)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        if self.accelerator is None:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return self.accelerator.device

    @property
    def name(self) -> str:
        """The run's, for titles."""
        return self.run.folder.resolve().name

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid (gh, gw)."""
        return self.model.grid(self.transform.size)

    @property
    def batch_size(self) -> int:
        """Images predicted at a time, unless asked for."""
        return min(self.settings.batch_size, MOST_AT_A_TIME)

    @property
    def erases_every_cell(self) -> bool:
        """Whether the decision maps are exact; on a larger grid they are estimated."""
        return prod(self.grid) <= EXACT_CELLS

    def decision_map(
        self, inputs: Tensor, target: int | Tensor | None = None, edit: AttentionEdit | None = None
    ) -> Tensor:
        """How much each cell supports a class, in nats [B, gh, gw] on the CPU (`model.decision_map`)."""
        return decision_map(self.model, inputs, target, exact=self.erases_every_cell, edit=edit).cpu()

    @cached_property
    def input_config(self) -> dict:
        """The model's own mean, std and interpolation for its input."""
        config = timm.data.resolve_model_data_config(self.model)
        return {key: config[key] for key in ("mean", "std", "interpolation")}

    @cached_property
    def transform(self) -> BatchTransform:
        """From uint8 batches to the network's input, whole images."""
        return BatchTransform(self.settings.img_size, **self.input_config)

    def train_transform(self, n: int) -> BatchTransform:
        """The same with the random flips and crops of the settings, for a part of n images."""
        s = self.settings
        augment = dict(hflip=s.hflip, crop_scale=s.crop_scale, seed=s.seed, n=n)
        return BatchTransform(s.img_size, **self.input_config, train=True, **augment)

    def prepare(self, part: Part) -> Prepared:
        """The images of a part as this network needs them."""
        s, transform = self.settings, self.transform
        return part.prepare(transform.size, s.cache_gib, s.workers, transform.interpolation)

    @cached_property
    def stored_size(self) -> tuple[int, int] | None:
        """The size (h, w) in which the run's training images wait for `transform`; None: not known."""
        size = self.run.facts().get("stored_size") if self.run else None
        return size and tuple(size)

    def pixels(self, file: Path) -> Tensor:
        """An image file as `prepare` keeps one of the data set: uint8 [3, h, w], the whole image.

        It stays in its size if that is `stored_size` (if this is not known: fits into the network's input);
        any other one is resized to the network's input. Raises `BadImage`.
        """
        own, full = upright_size(file), self.transform.size
        fits = all(a <= b for a, b in zip(own, full, strict=True))
        stays = own == self.stored_size if self.stored_size else fits
        return decode(file, own if stays else full, self.transform.interpolation, self.run.value_range())

    def inputs(self, part: Prepared, chosen: list[int]) -> Tensor:
        """The images at these positions as the network's input, [B, 3, H, W] on its device."""
        return self.transform(part.pixels(chosen).to(self.device), torch.tensor(chosen))

    def batches(self, part: Prepared, positions: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """The images at these positions as the network's input, at most `batch_size` at a time."""
        for images, _, index in part.batches(
            np.split(positions, range(batch_size, len(positions), batch_size))
        ):
            yield self.transform(images.to(self.device), index)

    def attention_batches(self, part: Prepared, positions: np.ndarray, batch_size: int) -> Iterator[Tensor]:
        """The same, in batches whose N x N attention logits fit into LOGITS_MEMORY."""
        model = self.model
        tokens = model.num_prefix_tokens + prod(self.grid)
        bytes_per_image = 4 * model.depth * model.num_heads * tokens**2
        return self.batches(part, positions, max(1, min(batch_size, LOGITS_MEMORY // bytes_per_image)))

    def attention_maps(self, part: Prepared, positions: np.ndarray) -> AttentionMaps:
        """Sigmoid and softmax attention of every layer and rollout, [n, ...] on the CPU."""
        batches = self.attention_batches(part, positions, self.batch_size)
        with _eval_mode(self.model):
            found = [[kind.cpu() for kind in attention_maps(self.model, x)[1]] for x in batches]
        return AttentionMaps(*map(torch.cat, zip(*found, strict=True)))

    @torch.no_grad()
    def logits(
        self, part: Prepared, batch_size: int | None = None, edit: AttentionEdit | None = None
    ) -> Tensor:
        """Class logits float32 [n, K] of all images, in order, on every process's CPU.

        The edit of one image, if given, is in force for all of them.
        """
        a, n, batch_size = self.accelerator, len(part), batch_size or self.batch_size
        rank, world = (a.process_index, a.num_processes) if a else (0, 1)
        share = -(-n // world)  # images per process; the last ones are repeated to make it even
        mine = np.arange(rank * share, (rank + 1) * share).clip(max=n - 1)
        logits = self._logits_at(part, mine, batch_size, edit)
        return (gather(logits) if world > 1 else logits)[:n].cpu()

    @torch.no_grad()
    def logits_under(self, part: Prepared, positions: np.ndarray, edit: AttentionEdit | None) -> Tensor:
        """Class logits float32 [m, K] of the images at these positions, each with its own edit in force.

        Computed by the process that asks, and by no other one.
        """
        return self._logits_at(part, positions, self.batch_size, edit).cpu()

    def _logits_at(
        self, part: Prepared, positions: np.ndarray, batch_size: int, edit: AttentionEdit | None
    ) -> Tensor:
        """An edit of one image is in force for all of them."""
        found, edit, a = [], edit and edit.to(self.device), self.accelerator
        with _eval_mode(self.model), a.autocast() if a else nullcontext():
            for k, images in enumerate(self.batches(part, positions, batch_size)):
                own = slice(k * batch_size, (k + 1) * batch_size) if edit and len(edit) > 1 else slice(None)
                found.append(self.model(images, **({"edit": edit[own]} if edit else {})).float())
        return torch.cat(found)

    def predict(self, part: Prepared, batch_size: int | None = None) -> Predictions:
        """The predictions of all images of a part."""
        labels = torch.from_numpy(part.part.labels)
        return Predictions(self, part, self.logits(part, batch_size).softmax(dim=1), labels)


@dataclass
class Predictions:
    """What a network predicts for the n images of a part."""

    network: Network
    part: Prepared
    probabilities: Tensor  # float32 [n, K]
    labels: Tensor  # int64 [n]

    @property
    def title(self) -> str:
        """The run, the part, and the checkpoint where it is not the usual one."""
        last = "" if self.network.which == "best" else f", {self.network.which} epoch"
        return f"{self.network.name}, {self.part.part.name}{last}"

    @property
    def groups(self) -> np.ndarray | None:
        """Which images belong together, int64 [n], by the run's GROUP_BY; None without it."""
        group_by = self.network.settings.group_by
        return group_numbers(self.part.part.ids, group_by) if group_by else None

    def confident_errors(self, count: int) -> list[int]:
        """Positions of at most `count` wrong predictions, the most confident first."""
        return ranking.confident_errors(*self.classes_and_confidence(), self.labels.numpy())[:count].tolist()

    def surest_hits(self, count: int) -> list[int]:
        """Positions of at most `count` right predictions, see `ranking.surest_hits`."""
        return ranking.surest_hits(*self.classes_and_confidence(), self.labels.numpy())[:count].tolist()

    def classes_and_confidence(self) -> tuple[np.ndarray, np.ndarray]:
        """The predicted class of each image, and its probability: [n] each."""
        confidence, prediction = self.probabilities.max(1)
        return prediction.numpy(), confidence.numpy()

    def images(self, chosen: list[int]) -> Tensor:
        """The images at these positions, uint8 [B, 3, h, w]."""
        return self.part.pixels(chosen)

    def inputs(self, chosen: list[int]) -> Tensor:
        """The same as the network's input, [B, 3, H, W] on its device."""
        return self.network.inputs(self.part, chosen)

    def attention(self, chosen: list[int]) -> Tensor:
        """Sigmoid attention of the class token in the last block, 0..1 [B, H, gh, gw] on the CPU."""
        return sigmoid_attention(self.network.model, self.inputs(chosen))[1].cpu()

    def decision_maps(self, chosen: list[int]) -> Tensor:
        """What each cell does to the decision, in nats [B, gh, gw]: see `Network.decision_map`."""
        return self.network.decision_map(self.inputs(chosen))

    def attention_maps(self, chosen: list[int]) -> AttentionMaps:
        """Those of the images at these positions, see `Network.attention_maps`."""
        return self.network.attention_maps(self.part, np.array(chosen))


@contextmanager
def _eval_mode(model: EditableViT) -> Iterator[None]:
    """The model in eval mode, and afterwards in the mode it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def build_model(settings: Settings, num_classes: int) -> EditableViT:
    """The network the settings describe, with random weights, shown to take images of their size."""
    if ":" not in settings.model_name:
        stock_model(settings.model_name, device="meta")  # knows the name, or says which are close
    kwargs = {"img_size": settings.img_size, **settings.model_kwargs}
    try:
        model = create_model(settings.model_name, num_classes=num_classes, **kwargs)
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, settings.img_size, settings.img_size))
        return model
    except UserError:
        raise
    except Exception as error:  # whatever a wrong argument makes of timm's code
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"timm cannot build {settings.model_name} with {kwargs} ({reason})") from error


def make_accelerator(settings: Settings) -> Accelerator:
    """Device, processes and precision: bf16 under "auto" where the GPU has it."""
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    precision = {"auto": "bf16" if bf16 else "no", "fp32": "no", "bf16": "bf16"}[settings.precision]
    patience = InitProcessGroupKwargs(timeout=timedelta(minutes=settings.hung_minutes))
    return Accelerator(
        cpu=not torch.cuda.is_available(), mixed_precision=precision, kwargs_handlers=[patience]
    )
