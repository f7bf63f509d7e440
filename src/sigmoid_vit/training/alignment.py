"""The loss of Step 2: cross-entropy of the injected pass, alignment of attention, and consistency.

loss of an image = cross-entropy of its injected pass + attn_lambda x alignment loss on its edited cells
                   + consistency x KL(answer of the injected pass || answer to the whole image)

In use no edit is in force, so the network has to answer to the whole image as it does with the erased cells
taken away. That takes a second pass, which half of the updates have.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.model.vit import EditableViT
from sigmoid_vit.runs.settings import Settings

MARGIN = 0.02  # alignment aims within [MARGIN, 1 - MARGIN]: a logit for exactly 0 or 1 is never reached
OBJECT_WEIGHT = 5.0  # of cells with a target above 0.5: there are usually far fewer of them
ROWS_PER_STEP = 4  # query rows drawn at random in each step: the mean over steps is the loss over all rows


def alignment_loss(
    logits: dict[int, Tensor], value: Tensor, edited: Tensor, kind: str, num_prefix: int
) -> Tensor:
    """How far the network's own attention is from the edited values, for each image: [B].

    The mean over the edited cells, query rows and heads of each layer, and over the layers; an image without
    edited cells has loss 0.

    Args:
        logits: layer -> attention logits [B, H, Q, N]; one of -inf, of a token that takes no part in a layer,
            does not count.
        value, edited: float in 0..1 and bool, [B, gh, gw].
        kind: "bce", the mean of two cross-entropies, on the logits and on the logits above `row_level`,
            cells with a target above 0.5 counting OBJECT_WEIGHT times; "mse" on the sigmoid attention (the
            paper's); "kl" from the edited softmax row to the network's.
    """
    target = value.float().clamp(MARGIN, 1 - MARGIN).flatten(1)[:, None, None]  # [B, 1, 1, patches]
    asked = edited.flatten(1)[:, None, None]
    total = 0.0
    for layer_logits in logits.values():
        absent = layer_logits == -torch.inf
        cells = (asked & ~absent[..., num_prefix:]).float()
        layer_logits = layer_logits.masked_fill(absent, 0)
        own = layer_logits[..., num_prefix:]
        if kind == "bce":
            weight = cells * torch.where(target > 0.5, OBJECT_WEIGHT, 1.0)
            both = torch.stack([own, own - row_level(layer_logits)])
            entropies = F.binary_cross_entropy_with_logits(both, target.expand_as(both), reduction="none")
            loss = weight * entropies.mean(0)
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


def row_level(logits: Tensor) -> Tensor:
    """The logit that a row of logits [..., N] has if its softmax stays the same with all equal: [..., 1].

    A logit at this level has the share 1/N. Softmax ignores a shift of all logits, and so do the logits above
    the level of their row: lowering a whole row, which lowers its sigmoid attention and changes nothing in
    the pass, does not lower a loss on these.
    """
    return logits.logsumexp(-1, keepdim=True) - math.log(logits.shape[-1])


class HITLLoss(nn.Module):
    """The network, the cross-entropy of its injected pass and the alignment of its attention, in one module.

    inject: compute the pass with the erased cells (value below 0.5) taken away. Other edited cells are
    aligned alone, their attention in the pass is the network's own. Without it there is no consistency loss.
    """

    def __init__(self, model: EditableViT, settings: Settings, inject: bool) -> None:
        super().__init__()
        self.model, self.settings, self.inject = model, settings, inject
        self.layers = parse_layers(settings.edit_layers)
        self.generator = torch.Generator()
        self.sees_whole = True  # whether this update compares with the answers to the whole images

    def seed(self, seed: int) -> None:
        """Of the next update, the same in all processes: rows that are sampled, whole images or not."""
        self.generator.manual_seed(seed)
        self.sees_whole = bool(torch.randint(2, (), generator=self.generator))

    def forward(self, images: Tensor, labels: Tensor, value: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W], labels [B], edits [B, gh, gw] to each image's loss [B] and class logits."""
        s, edit, num_prefix = self.settings, None, self.model.num_prefix_tokens
        if self.inject:
            edit = AttentionEdit(value, edited & (value < 0.5), self.layers, queries=s.edit_queries)
        rows = self._rows(num_prefix + edited[0].numel())
        class_logits, logits = self.model.forward_with_attention(images, edit, self.layers, rows)
        align = alignment_loss(logits, value, edited, s.attn_loss, num_prefix)
        loss = F.cross_entropy(class_logits, labels, reduction="none", label_smoothing=s.label_smoothing)
        if self.inject and self.sees_whole and s.consistency:
            whole = self.model(images).log_softmax(1)
            answer = class_logits.detach().softmax(1)  # the edited pass teaches, it does not learn from this
            loss = loss + s.consistency * F.kl_div(whole, answer, reduction="none").sum(1)
        return loss + s.attn_lambda * align, class_logits

    def _rows(self, n: int) -> str | Tensor:
        if self.settings.edit_queries == "cls":
            return "cls"
        return torch.randperm(n, generator=self.generator)[:ROWS_PER_STEP]


def parse_layers(text: str) -> str | list[int]:
    """EDIT_LAYERS as an edit's scope: "all", "last" or comma-separated indices."""
    if text in ("all", "last"):
        return text
    try:
        return [int(i) for i in text.split(",")]
    except ValueError as error:
        raise UserError(f'EDIT_LAYERS is {text!r}; give "all", "last" or indices such as 8,9,10') from error


def check_edits_apply(model: EditableViT, settings: Settings) -> None:
    """Try a step of Step 2 on an empty image.

    Raises:
        UserError: the network cannot follow edits of EDIT_LAYERS and EDIT_QUERIES.
    """
    s, loss = settings, HITLLoss(model, settings, inject=True).train()
    image, value = (
        torch.zeros(1, 3, s.img_size, s.img_size),
        torch.zeros(1, *model.grid((s.img_size, s.img_size))),
    )
    try:
        with torch.no_grad():
            loss(image, torch.zeros(1, dtype=torch.long), value, value == 0)
    except UserError as error:
        raise UserError(f"EDIT_LAYERS={s.edit_layers}, EDIT_QUERIES={s.edit_queries}: {error}") from error
