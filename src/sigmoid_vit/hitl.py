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
from sigmoid_vit.data import Part
from sigmoid_vit.edits import AttentionEdit
from sigmoid_vit.errors import UserError
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.store import EditStore

MARGIN = 0.02  # alignment aims within [MARGIN, 1 - MARGIN]: a logit for exactly 0 or 1 is never reached
OBJECT_WEIGHT = 5.0  # of cells that shall be looked at: there are usually far fewer of them
ROWS_PER_STEP = 4  # sampled query rows, an unbiased estimate of the loss over all of them
CUE = 0.5  # Cramer's V between class and being edited above which being edited is a cue


@dataclass
class EditMaps:
    """The edits of the n images of a part, on one grid; an image without an edit has no edited cell."""

    value: Tensor  # float32 [n, gh, gw] in 0..1
    edited: Tensor  # bool [n, gh, gw]

    @property
    def has_edit(self) -> np.ndarray:
        """Which images are edited: bool [n]."""
        return self.edited.flatten(1).any(1).numpy()

    def subset(self, indices: np.ndarray) -> "EditMaps":
        """The edits of the images at these positions."""
        index = torch.from_numpy(np.asarray(indices))
        return EditMaps(self.value[index], self.edited[index])

    def shuffled(self, seed: int) -> "EditMaps":
        """The same edits handed round among the edited images: the control for what they say."""
        edited = np.flatnonzero(self.has_edit)
        order = np.random.default_rng(seed).permutation(edited)
        source = np.arange(len(self.value))
        source[order] = np.roll(order, 1)  # one cycle: nobody keeps his own
        return self.subset(source)


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


class HITLLoss(nn.Module):
    """The network, the cross-entropy of its injected pass and the alignment of its attention, in one module.

    inject: compute the pass with the erased cells (value below 0.5) taken away. Cells to be looked at are
    aligned only: how much each of them weighs stays the network's own business.
    """

    def __init__(self, model: SigmoidViT, settings: Settings, inject: bool) -> None:
        super().__init__()
        self.model, self.settings, self.inject = model, settings, inject
        self.layers = parse_layers(settings.edit_layers)
        self.generator = torch.Generator()

    def start_epoch(self, epoch: int) -> None:
        """Make the sampled rows a function of (seed, epoch, step), the same in all processes."""
        self.generator.manual_seed(1_000_003 * self.settings.seed + epoch)

    def forward(self, images: Tensor, labels: Tensor, value: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], labels [B], edits [B, gh, gw] to each image's loss [B] and class logits."""
        s = self.settings
        scope = dict(layers=self.layers, queries=s.edit_queries)
        edit = AttentionEdit(value, edited & (value < 0.5), **scope) if self.inject else None
        rows = self._rows(self.model.num_prefix_tokens + edited[0].numel())
        class_logits, logits = self.model.forward_with_attention(images, edit, self.layers, rows)
        loss = F.cross_entropy(class_logits, labels, reduction="none", label_smoothing=s.label_smoothing)
        align = alignment_loss(logits, value, edited, s.attn_loss, self.model.num_prefix_tokens)
        return loss + s.attn_lambda * align, class_logits

    def _rows(self, n: int) -> str | Tensor:
        if self.settings.edit_queries == "cls":
            return "cls"
        return torch.randperm(n, generator=self.generator)[:ROWS_PER_STEP]


def load_edits(path: str, part: Part, grid: tuple[int, int]) -> tuple[EditMaps, dict[str, int]]:
    """The current edits of a store for the images of `part`, on the model's grid, and an account of them.

    An edit of another image (its sha256 differs) is not used; one on another grid is resampled, one with
    values per head is averaged over the heads. The account counts these, and edits of unknown images.
    """
    maps = EditMaps(torch.zeros(len(part), *grid), torch.zeros(len(part), *grid, dtype=torch.bool))
    with EditStore(path, readonly=True) as store:
        current = store.current_all()
    position = {image_id: i for i, image_id in enumerate(part.ids)}
    account = {"used": 0, "of unknown images": 0, "of changed images": 0, "resampled": 0}
    for image_id, stored in current.items():
        i = position.get(image_id)
        if i is None or part.sha256(i) != stored.image_sha256:
            account["of unknown images" if i is None else "of changed images"] += 1
            continue
        edit = stored.attention_edit()
        account["used"] += 1
        account["resampled"] += edit.grid != grid
        edit = edit.resize(grid)
        value, edited = edit.value[0], edit.edited[0]
        if value.ndim == 3:
            value, edited = (value * edited).sum(0) / edited.sum(0).clamp(min=1), edited.any(0)
        maps.value[i], maps.edited[i] = value, edited
    if not account["used"]:
        raise UserError(f"{path} holds no edit of an image in train ({account}); import or draw some first")
    return maps, account


@dataclass
class Plan:
    """How to train on the edits there are."""

    inject: bool
    images: np.ndarray  # positions of the images to train on
    says: str  # the reason, for the person and for config.json


def plan(settings: Settings, labels: np.ndarray, has_edit: np.ndarray) -> Plan:
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
