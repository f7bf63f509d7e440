"""The decision map: what each cell does to the decision, measured by the method's own edit.

Attention shows which tokens are mixed, not what the class logits come from. Erasing a cell (an edit of value
0, in all layers and for all query rows) and computing the network again shows it exactly.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit, LayerEdit
from sigmoid_vit.model.vit import SigmoidViT

PASSES = 64  # passes with one cell erased that are computed at a time
STEPS = 8  # of the estimate, between all cells present and all removed


def decision_map(
    model: SigmoidViT,
    images: Tensor,
    target: int | Tensor | None = None,
    against: int | Tensor | None = None,
    exact: bool = True,
) -> Tensor:
    """How much each cell supports a class: the fall of its log-probability when that cell alone is erased.

    Args:
        model: in eval mode, for the map to be a function of the image.
        images: [B, 3, H, W].
        target: the class, one for all images or int64 [B]; None for the predicted class of each.
        against: a second class, likewise; the map is then of log p(target) - log p(against).
        exact: erase each cell in turn, gh x gw passes an image; False estimates all of them from STEPS
            forward and backward passes.

    Returns:
        float32 [B, gh, gw], in nats: above 0 where the cell speaks for the class, below 0 where it speaks
        against it.

    Raises:
        UserError: a class that the network does not have.
    """
    with torch.no_grad():
        scores = model(images).float().log_softmax(1)
    target = _classes(scores, scores.argmax(1) if target is None else target)
    against = None if against is None else _classes(scores, against)
    effects = _erase_each if exact else _estimate
    return effects(model, images, target, against)


def _classes(scores: Tensor, given: int | Tensor) -> Tensor:
    """Class numbers as int64 [B]."""
    classes = torch.as_tensor(given, device=scores.device).expand(len(scores)).long()
    if not ((classes >= 0) & (classes < scores.shape[1])).all():
        raise UserError(f"there is no class {classes.tolist()}; the classes are 0 to {scores.shape[1] - 1}")
    return classes


def _score(class_logits: Tensor, target: Tensor, against: Tensor | None) -> Tensor:
    """log p(target), or its difference to log p(against): [B]."""
    scores = class_logits.float().log_softmax(1)
    score = scores.gather(1, target[:, None])
    if against is not None:
        score = score - scores.gather(1, against[:, None])
    return score.squeeze(1)


@torch.no_grad()
def _erase_each(model: SigmoidViT, images: Tensor, target: Tensor, against: Tensor | None) -> Tensor:
    grid = tuple(model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    cells, device = grid[0] * grid[1], images.device
    tokens = model.embed(images)
    effect = torch.empty(len(images), cells, device=device)
    own = _score(_class_logits(model, tokens), target, against)
    for pairs in torch.cartesian_prod(torch.arange(len(images)), torch.arange(cells)).split(PASSES):
        image, cell = pairs.to(device).unbind(1)
        edited = torch.zeros(len(pairs), cells, dtype=torch.bool, device=device)
        edited[torch.arange(len(pairs)), cell] = True
        edit = AttentionEdit(torch.zeros(len(pairs), *grid), edited.unflatten(1, grid))
        _, layer_edit = model.layer_edit(images[image], edit)
        rival = None if against is None else against[image]
        without = _score(_class_logits(model, tokens[image], layer_edit), target[image], rival)
        effect[image, cell] = own[image] - without
    return effect.unflatten(1, grid)


def _class_logits(model: SigmoidViT, tokens: Tensor, edit: LayerEdit | None = None) -> Tensor:
    """Class logits [B, K] of the tokens [B, N, C] in front of the first block, under an edit."""
    for i in range(len(model.blocks)):
        tokens, _ = model.forward_block(i, tokens, edit)
    return model.forward_head(model.norm(tokens))


def _estimate(model: SigmoidViT, images: Tensor, target: Tensor, against: Tensor | None) -> Tensor:
    """Integrated gradients (Sundararajan et al., 2017) of the weight that each cell has as a key.

    The weight goes from 0, removed, to 1, present, for all cells together; the gradient is taken at STEPS
    midpoints. Summed over the cells it is the effect of removing all of them.
    """
    grid = tuple(model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    shape, prefix = (len(images), grid[0] * grid[1]), model.num_prefix_tokens
    effect = torch.zeros(shape, device=images.device)
    with torch.enable_grad():
        for step in range(STEPS):
            weight = torch.full(shape, (step + 0.5) / STEPS, device=images.device, requires_grad=True)
            tokens = model.embed(images).detach()
            bias = F.pad(weight.log(), (prefix, 0))[:, None, None].to(tokens.dtype)  # [B, 1, 1, N]
            for block in model.blocks:
                tokens = block(tokens, attn_mask=bias)
            score = _score(model.forward_head(model.norm(tokens)), target, against)
            effect += torch.autograd.grad(score.sum(), weight)[0] / STEPS
    return effect.unflatten(1, grid)
