"""Learning from edits (Step 2): the loss that knows them, and what keeps it from learning the wrong thing.

loss of an image = cross-entropy of its injected pass + attn_lambda x alignment loss on its edited cells
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats.contingency import association
from torch import Tensor, nn

from sigmoid_vit.config import Settings
from sigmoid_vit.edits import AttentionEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.model import SigmoidViT

MARGIN = 0.02  # alignment aims within [MARGIN, 1 - MARGIN]: a logit for exactly 0 or 1 is never reached
OBJECT_WEIGHT = 5.0  # of cells that shall be looked at: there are usually far fewer of them
ROWS_PER_STEP = 4  # sampled query rows, an unbiased estimate of the loss over all of them
CUE = 0.5  # Cramer's V between class and being edited above which being edited is a cue


def alignment_loss(
    logits: dict[int, Tensor], value: Tensor, edited: Tensor, kind: str, num_prefix: int
) -> Tensor:
    """How far the network's own attention is from the edited values, for each image: [B].

    The mean over the edited cells, query rows and heads of each layer, and over the layers; an image without
    edited cells has loss 0.

    Args:
        logits: layer -> attention logits [B, H, Q, N].
        value, edited: float in 0..1 and bool, [B, gh, gw].
        kind: "bce" on the logits, cells to be looked at counting OBJECT_WEIGHT times; "mse" on the sigmoid
            attention (the paper's); "kl" from the edited softmax row to the network's.
    """
    target = value.float().clamp(MARGIN, 1 - MARGIN).flatten(1)[:, None, None]  # [B, 1, 1, patches]
    cells = edited.flatten(1)[:, None, None].float()
    total = 0.0
    for layer_logits in logits.values():
        own = layer_logits[..., num_prefix:]
        if kind == "bce":
            weight = cells * torch.where(target > 0.5, OBJECT_WEIGHT, 1.0)
            loss = weight * F.binary_cross_entropy_with_logits(own, target.expand_as(own), reduction="none")
        elif kind == "mse":
            loss = cells * (own.sigmoid() - target).square()
        else:
            row = layer_logits.detach().clone()
            row[..., num_prefix:] = torch.where(cells > 0, target.logit(), row[..., num_prefix:])
            divergence = F.kl_div(
                layer_logits.log_softmax(-1), row.log_softmax(-1), reduction="none", log_target=True
            )
            loss = cells * divergence[..., num_prefix:]
        counted = cells.expand_as(loss).sum((1, 2, 3)).clamp(min=1)
        total = total + loss.sum((1, 2, 3)) / counted
    return total / len(logits)


class AlignmentLoss(nn.Module):
    """The network and the alignment of its attention with the edits, in one module; labels are not used."""

    def __init__(self, model: SigmoidViT, settings: Settings) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        self.layers = parse_layers(settings.edit_layers)
        self.generator = torch.Generator()

    def start_epoch(self, epoch: int) -> None:
        """Make the sampled rows a function of (seed, epoch, step), the same in all processes."""
        self.generator.manual_seed(1_000_003 * self.settings.seed + epoch)

    def forward(self, images: Tensor, labels: Tensor, value: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], labels [B], edits [B, gh, gw] to each image's loss [B] and class logits."""
        align, class_logits = self.align(images, value, edited)
        return align + 0 * class_logits.sum(1), class_logits  # parallel wrappers want every parameter used

    def align(
        self, images: Tensor, value: Tensor, edited: Tensor, inject: AttentionEdit | None = None
    ) -> tuple[Tensor, Tensor]:
        """The alignment loss [B], and the class logits of a pass with `inject` in force."""
        rows = self._rows(self.model.num_prefix_tokens + edited[0].numel())
        class_logits, logits = self.model.forward_with_attention(images, inject, self.layers, rows)
        kind, num_prefix = self.settings.attn_loss, self.model.num_prefix_tokens
        return alignment_loss(logits, value, edited, kind, num_prefix), class_logits

    def _rows(self, n: int) -> str | Tensor:
        if self.settings.edit_queries == "cls":
            return "cls"
        return torch.randperm(n, generator=self.generator)[:ROWS_PER_STEP]


class HITLLoss(AlignmentLoss):
    """The cross-entropy of the network's injected pass and the alignment of its attention.

    inject: compute the pass with the erased cells (value below 0.5) taken away. Cells to be looked at are
    aligned only: how much each of them weighs stays the network's own business.
    """

    def __init__(self, model: SigmoidViT, settings: Settings, inject: bool) -> None:
        super().__init__(model, settings)
        self.inject = inject

    def forward(self, images: Tensor, labels: Tensor, value: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], labels [B], edits [B, gh, gw] to each image's loss [B] and class logits."""
        s, edit = self.settings, None
        if self.inject:
            edit = AttentionEdit(value, edited & (value < 0.5), self.layers, queries=s.edit_queries)
        align, class_logits = self.align(images, value, edited, edit)
        loss = F.cross_entropy(class_logits, labels, reduction="none", label_smoothing=s.label_smoothing)
        return loss + s.attn_lambda * align, class_logits


@dataclass
class Plan:
    """How to train on the edits there are."""

    inject: bool
    images: np.ndarray  # positions of the images to train on
    says: str  # the reason, for the person and for config.json


def make_plan(settings: Settings, labels: np.ndarray, has_edit: np.ndarray) -> Plan:
    """Decide whether to inject and which images to train on.

    With INJECT=auto, edits are injected only where being edited does not give the class away: a network that
    sees some classes only under injection learns "not injected = another class" and says so of every new
    image. Then all images are trained on and attention is aligned alone.
    """
    everything, edited = np.arange(len(labels)), np.flatnonzero(has_edit)
    lost = np.setdiff1d(labels, labels[edited])
    drop = settings.unedited == "drop" and len(edited) < len(labels)
    cue = 0.0 if drop and not len(lost) else being_edited_is_a_cue(labels, has_edit)
    safe = bool(drop and len(lost)) or cue > CUE
    inject = settings.inject == "true" or (settings.inject == "auto" and not safe)
    if drop and len(lost):
        says = f"{len(lost)} classes have no edited image, so the unedited images are trained on as well"
    elif drop:
        rest = len(labels) - len(edited)
        says = f"training on the {len(edited)} edited images; {rest} without an edit are dropped"
    else:
        says = f"training on all {len(labels)} images, {len(edited)} of them edited"
    if safe and not inject:
        says += "; being edited goes with the class, so edits are not injected (INJECT=true forces it)"
    elif safe:
        says += "; WARNING: being edited goes with the class, and INJECT=true injects all the same"
    return Plan(inject, edited if drop and not len(lost) else everything, says)


def parse_layers(text: str) -> str | list[int]:
    """EDIT_LAYERS as an edit's scope: "all", "last" or comma-separated indices."""
    if text in ("all", "last"):
        return text
    try:
        return [int(i) for i in text.split(",")]
    except ValueError as error:
        raise UserError(f'EDIT_LAYERS is {text!r}; give "all", "last" or indices such as 8,9,10') from error


def being_edited_is_a_cue(labels: np.ndarray, has_edit: np.ndarray) -> float:
    """Cramer's V in 0..1 between an image's class and whether it is edited; 0 if all or none are."""
    table = np.stack([np.bincount(labels[has_edit == e], minlength=labels.max() + 1) for e in (False, True)])
    table = table[:, table.sum(0) > 0]
    if min(table.sum(1)) == 0 or table.shape[1] < 2:
        return 0.0
    return float(association(table, method="cramer"))
