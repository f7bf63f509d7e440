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
CUE = 0.5  # share of the largest possible association above which being edited tells the class
RARE = 0.99  # quantile of random groups of images beyond which the classes of a group are no chance


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


def make_plan(
    settings: Settings,
    labels: np.ndarray,
    has_edit: np.ndarray,
    injected: np.ndarray | None = None,
    by_people: np.ndarray | None = None,
) -> Plan:
    """Decide whether to inject and which images to train on.

    With INJECT=auto, edits are injected only where being injected does not give the class away: a network
    that sees some classes only under injection learns "not injected = another class" and says so of every new
    image. Then the unedited images are left out, if at least half of every class is edited; otherwise all
    images are trained on and attention is aligned alone.

    Args:
        labels: int64 [n].
        has_edit, injected, by_people: bool [n], which images are edited, have cells that injection takes away
            (None: the edited ones), and were edited by a person and not by propagation (None: likewise). What
            people edited counts by itself as well: predicted edits of a class that nobody edited may all
            look alike.
    """
    injected = has_edit if injected is None else injected
    by_people = has_edit if by_people is None else by_people
    edited = np.flatnonzero(has_edit)
    lost, unedited = np.setdiff1d(labels, labels[edited]), len(labels) - len(edited)
    dropping = settings.unedited == "drop" and unedited > 0

    def tells_the_class(images: np.ndarray) -> bool:
        its, taken = labels[images], injected[images]
        people = being_edited_is_a_cue(its, taken & by_people[images])
        return max(people, being_edited_is_a_cue(its, taken)) > CUE or groups_differ_in_class(its, taken)

    if dropping and not len(lost):
        images = edited
        says = f"training on the {len(edited)} edited images; {unedited} without an edit are dropped"
    elif dropping:
        images = np.arange(len(labels))
        says = f"classes without an edited image: {len(lost)}, so the unedited images are trained on as well"
    else:
        images = np.arange(len(labels))
        says = f"training on all {len(labels)} images, {len(edited)} of them edited"
    if settings.inject == "false":
        return Plan(False, images, says)
    if not injected.any():
        return Plan(False, images, says + "; no edited cell has a value below 0.5, so nothing is injected")
    if not (dropping and len(lost)) and not tells_the_class(images):
        return Plan(True, images, says)
    if settings.inject == "true":
        says += "; WARNING: being edited goes with the class, and INJECT=true injects all the same"
        return Plan(True, images, says)
    half = 2 * np.bincount(labels[edited], minlength=labels.max() + 1) >= np.bincount(labels)
    if half.all() and not tells_the_class(edited):
        says = f"training on the {len(edited)} edited images; the {unedited} without an edit are left out, "
        says += "because being edited goes with the class (INJECT=true trains on them all the same)"
        return Plan(True, edited, says)
    says += "; being edited goes with the class, so edits are not injected (INJECT=true forces it)"
    return Plan(False, images, says)


def parse_layers(text: str) -> str | list[int]:
    """EDIT_LAYERS as an edit's scope: "all", "last" or comma-separated indices."""
    if text in ("all", "last"):
        return text
    try:
        return [int(i) for i in text.split(",")]
    except ValueError as error:
        raise UserError(f'EDIT_LAYERS is {text!r}; give "all", "last" or indices such as 8,9,10') from error


def check_edits_apply(model: SigmoidViT, settings: Settings) -> None:
    """Try a step of Step 2 on an empty image.

    Raises:
        UserError: the network cannot follow edits of EDIT_LAYERS and EDIT_QUERIES.
    """
    s, loss = settings, HITLLoss(model, settings, inject=True).train()
    image, value = torch.zeros(1, 3, s.img_size, s.img_size), torch.zeros(1, *model.patch_embed.grid_size)
    try:
        with torch.no_grad():
            loss(image, torch.zeros(1, dtype=torch.long), value, value == 0)
    except UserError as error:
        raise UserError(f"EDIT_LAYERS={s.edit_layers}, EDIT_QUERIES={s.edit_queries}: {error}") from error


def being_edited_is_a_cue(labels: np.ndarray, has_edit: np.ndarray) -> float:
    """Cramer's V in 0..1 between an image's class and whether it is edited; 0 if all or none are."""
    table = np.stack([np.bincount(labels[has_edit == e], minlength=labels.max() + 1) for e in (False, True)])
    table = table[:, table.sum(0) > 0]
    if min(table.sum(1)) == 0 or table.shape[1] < 2:
        return 0.0
    return float(association(table, method="cramer"))


def groups_differ_in_class(labels: np.ndarray, in_group: np.ndarray) -> bool:
    """Whether the images in a group, or those outside it, are of other classes than all of them together.

    That is so when a group is at least half as far from the class shares of all images as if it were of one
    class, and random groups of its size (seeded) hardly ever are as far: a few scattered images are no cue.
    """
    total, random = np.bincount(labels), np.random.default_rng(0)
    for group in (in_group, ~in_group):
        if 0 < (size := group.sum()) < len(labels):
            own = _distance(np.bincount(labels[group], minlength=len(total))[None], total).item()
            others = _distance(random.multivariate_hypergeometric(total, size, 1000), total)
            if own >= CUE and own > np.quantile(others, RARE) + 1e-9:
                return True
    return False


def _distance(groups: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Total variation distance between the class shares of groups, counts [n, K], and those of all, [K].

    In units of the distance of a group that is of one class alone, the one each has most in excess: [n].
    """
    shares = total / total.sum()
    excess = groups / groups.sum(1, keepdims=True) - shares  # [n, K]
    return excess.clip(min=0).sum(1) / np.maximum(1 - shares[excess.argmax(1)], 1e-9)
