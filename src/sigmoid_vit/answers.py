"""What the network of a run answers to the images of a part, and what it takes to look into it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from sigmoid_vit.attention_quality import AttentionViews, attention_views, looking_rows
from sigmoid_vit.data import BatchTransform, Part, Prepared
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.plots import NAME, short
from sigmoid_vit.prediction import predict
from sigmoid_vit.runs import Run, data_config, make_accelerator


@torch.no_grad()
def sigmoid_attention(model: SigmoidViT, images: Tensor, layer: str | int = "last") -> tuple[Tensor, Tensor]:
    """Class logits [B, K] and sigmoid attention of the class token over the patches, 0..1 [B, H, gh, gw].

    A model without a class token is shown by the mean over its patch rows.
    """
    rows, patches = looking_rows(model), slice(model.num_prefix_tokens, None)
    queries = "cls" if model.has_class_token else "all"
    class_logits, logits = model.forward_with_attention(images, layers=layer, queries=queries)
    attention = next(iter(logits.values()))[:, :, rows, patches].sigmoid()
    grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    return class_logits, attention.mean(dim=2).unflatten(-1, grid)


def looks(model: SigmoidViT) -> str:
    """The query whose attention `sigmoid_attention` returns, in words."""
    return "class token" if model.has_class_token else "mean over all patches"


class Network:
    """The network of a run's best (or "last") epoch, on its device, with what brings images to it.

    Args:
        accelerator: that of another network it is compared with, since a process has one precision; None for
            what the run's settings say.
    """

    def __init__(self, run: Run, which: str = "best", accelerator: Accelerator | None = None) -> None:
        s = run.settings()
        self.run, self.which, self.settings, self.classes = run, which, s, run.classes
        self.model = run.load_model(which)
        self.accelerator = accelerator or make_accelerator(s)
        self.model.to(self.accelerator.device)
        self.transform = BatchTransform(s.img_size, **data_config(self.model))

    @property
    def name(self) -> str:
        """The run's, for titles."""
        return self.run.folder.resolve().name

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid (gh, gw)."""
        return tuple(self.model.patch_embed.dynamic_feat_size(self.transform.size))

    @property
    def batch_size(self) -> int:
        """Images at a time, unless somebody says otherwise."""
        return min(self.settings.batch_size, 256)

    def prepare(self, part: Part) -> Prepared:
        """The images of a part as this network needs them."""
        s, transform = self.settings, self.transform
        return part.prepare(transform.size, s.cache_gib, s.workers, transform.interpolation)

    def answer(self, part: Prepared, batch_size: int | None = None) -> "Answers":
        """The answers to all images of a part."""
        size = batch_size or self.batch_size
        logits, labels = predict(self.model, part, self.transform, size, self.accelerator)
        return Answers(self, part, logits.softmax(dim=1), labels)


@dataclass
class Answers:
    """A network's answers to the n images of a part."""

    network: Network
    part: Prepared
    probabilities: Tensor  # float32 [n, K]
    labels: Tensor  # int64 [n]

    @property
    def title(self) -> str:
        """The run, the part, and the checkpoint where it is not the usual one."""
        last = "" if self.network.which == "best" else f", {self.network.which} epoch"
        return f"{self.network.name}, {self.part.part.name}{last}"

    def images(self, chosen: list[int]) -> Tensor:
        """The images at these positions, uint8 [B, 3, h, w]."""
        return next(self.part.batches([np.array(chosen)]))[0]

    def inputs(self, chosen: list[int]) -> Tensor:
        """The same as the network's input, [B, 3, H, W] on its device."""
        return self.network.transform(
            self.images(chosen).to(self.network.accelerator.device), torch.tensor(chosen)
        )

    def attention(self, chosen: list[int]) -> Tensor:
        """Sigmoid attention of the class token in the last block, 0..1 [B, H, gh, gw] on the CPU."""
        return sigmoid_attention(self.network.model, self.inputs(chosen))[1].cpu()

    def views(self, chosen: list[int]) -> AttentionViews:
        """Sigmoid and softmax attention of every layer and rollout, [B, ...] on the CPU."""
        each = [attention_views(self.network.model, x[None])[1] for x in self.inputs(chosen)]  # N x N at once
        return AttentionViews(*(torch.cat(views).cpu() for views in zip(*each, strict=True)))

    def texts(self, chosen: list[int]) -> list[str]:
        """What `answer_text` says of the images at these positions."""
        ids, classes = self.part.part.ids, self.network.classes
        return [answer_text(ids[i], self.probabilities[i], int(self.labels[i]), classes) for i in chosen]


def answer_text(image_id: str, probabilities: Tensor, label: int, classes: Sequence[str]) -> str:
    """The id of an image, the class with most of the probabilities [K], and the true class; three lines."""
    (answer, said), (true, held) = (
        (short(classes[k], NAME), float(probabilities[k])) for k in (int(probabilities.argmax()), label)
    )
    return f"{image_id}\nanswer {answer} ({said:.0%})\ntrue {true} ({held:.0%})"
