"""The decision map: what each cell does to the decision, measured by the method's own edit.

Attention shows which tokens are mixed, not what the class logits come from. Erasing a cell (an edit of value
0, in all layers and for all query rows) and computing the network again shows it exactly.
"""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sigmoid_vit.errors import UserError
from sigmoid_vit.model.edit import AttentionEdit, LayerEdit
from sigmoid_vit.model.readout import attention_maps
from sigmoid_vit.model.vit import Beside, EditableViT

PASSES = 64  # passes with one cell erased that are computed at a time
REFINED = 16  # cells of an image that the estimate erases


def decision_map(
    model: EditableViT,
    images: Tensor,
    target: int | Tensor | None = None,
    against: int | Tensor | None = None,
    exact: bool = True,
    edit: AttentionEdit | None = None,
) -> Tensor:
    """How much each cell supports a class: the fall of its log-probability when that cell alone is erased.

    Args:
        model: in eval mode, for the map to be a function of the image.
        images: [B, 3, H, W].
        target: the class, one for all images or int64 [B]; None for the predicted class of each.
        against: a second class, likewise; the map is then of log p(target) - log p(against).
        exact: erase each cell in turn, gh x gw passes an image. False: erase only the REFINED cells that come
            first by the gradient or by rollout, and take the gradient for the others.
        edit: of all layers, heads and rows, in force all the time: the map is of the network under it.

    Returns:
        float32 [B, gh, gw], in nats: above 0 where the cell speaks for the class, below 0 where it speaks
        against it.

    Raises:
        UserError: a class that the network does not have, or an edit of a narrower scope.
    """
    grid = model.grid(images.shape[-2:])
    if exact or grid[0] * grid[1] <= REFINED:
        everything = torch.ones(len(images), *grid, dtype=torch.bool)
        return effect_of_erasing(model, images, everything, target, against, edit)
    start, question = _question(model, images, target, against, edit)
    effect = _gradient(model, start, question, grid, model.layer_edit(images, edit)[1])
    first = _first_cells(model, images, effect)
    erased = _erase(model, images, start, question, first, edit)
    return torch.where(first.to(erased.device), erased, effect).unflatten(1, grid)


def effect_of_erasing(
    model: EditableViT,
    images: Tensor,
    cells: Tensor,
    target: int | Tensor | None = None,
    against: int | Tensor | None = None,
    edit: AttentionEdit | None = None,
) -> Tensor:
    """The exact decision map at some cells, bool [B, gh, gw], and 0 at the others; see `decision_map`."""
    start, question = _question(model, images, target, against, edit)
    return _erase(model, images, start, question, cells.flatten(1), edit).unflatten(1, cells.shape[1:])


Start = tuple[Tensor, Beside]  # what `model.embed` makes of the images
Question = tuple[Tensor, Tensor | None]  # class numbers int64 [B], and those they are compared with


@torch.no_grad()
def _question(
    model: EditableViT,
    images: Tensor,
    target: int | Tensor | None,
    against: int | Tensor | None,
    edit: AttentionEdit | None,
) -> tuple[Start, Question]:
    """What comes in front of the first block, and which classes are asked about."""
    if edit is not None and not edit.everywhere:
        raise UserError("a decision map under an edit needs one of all layers, all heads alike and all rows")
    start = model.embed(images)
    scores = _class_logits(model, *start, model.layer_edit(images, edit)[1])
    target = _classes(scores, scores.argmax(1) if target is None else target)
    return start, (target, None if against is None else _classes(scores, against))


def _classes(scores: Tensor, given: int | Tensor) -> Tensor:
    """Class numbers as int64 [B]."""
    classes = torch.as_tensor(given, device=scores.device).expand(len(scores)).long()
    if not ((classes >= 0) & (classes < scores.shape[1])).all():
        raise UserError(f"there is no class {classes.tolist()}; the classes are 0 to {scores.shape[1] - 1}")
    return classes


def _score(class_logits: Tensor, question: Question) -> Tensor:
    """log p(target), or its difference to log p(against): [B]."""
    scores = class_logits.float().log_softmax(1)
    target, against = question
    score = scores.gather(1, target[:, None])
    if against is not None:
        score = score - scores.gather(1, against[:, None])
    return score.squeeze(1)


@torch.no_grad()
def _erase(
    model: EditableViT,
    images: Tensor,
    start: Start,
    question: Question,
    cells: Tensor,
    edit: AttentionEdit | None,
) -> Tensor:
    """The fall of the score when each of the cells, bool [B, gh * gw], is erased alone; 0 for the others."""
    (tokens, beside), (target, against) = start, question
    grid, device = model.grid(images.shape[-2:]), images.device
    effect = torch.zeros(cells.shape, device=device)
    own = _score(_class_logits(model, tokens, beside, model.layer_edit(images, edit)[1]), question)
    for pairs in torch.nonzero(cells).split(PASSES):
        image, cell = pairs.to(device).unbind(1)
        value = torch.zeros(len(pairs), cells.shape[1], device=device)
        edited = torch.zeros_like(value, dtype=torch.bool)
        if edit is not None:
            own_edit = edit.to(device)[image if len(edit) > 1 else torch.zeros_like(image)]
            value, edited = own_edit.value.flatten(1).float(), own_edit.edited.flatten(1)
        at = torch.arange(len(pairs))
        value[at, cell], edited[at, cell] = 0, True
        erasing = AttentionEdit(value.unflatten(1, grid), edited.unflatten(1, grid))
        _, layer_edit = model.layer_edit(images[image], erasing)
        asked = target[image], None if against is None else against[image]
        without = _score(_class_logits(model, tokens[image], beside, layer_edit), asked)
        effect[image, cell] = own[image] - without
    return effect


def _gradient(
    model: EditableViT,
    start: Start,
    question: Question,
    grid: tuple[int, int],
    edit: LayerEdit | None = None,
) -> Tensor:
    """The derivative of the score by each cell's weight as a key, in all layers and rows: [B, gh * gw]."""
    with torch.inference_mode(False), torch.enable_grad():
        # tensors of inference mode would have no gradient; their copies do
        (tokens, beside), question = _copied(start), _copied(question)
        shape = len(tokens), 1, grid[0] * grid[1]
        bias = torch.zeros(shape, device=tokens.device, requires_grad=True)  # log of the weight, 1
        nothing = torch.zeros_like(bias, dtype=torch.bool)  # edited: the bias is added to the own logits
        logit, edited = (edit.logit + bias, edit.edited) if edit else (bias, nothing)
        weighted = LayerEdit(logit, edited, queries="all", pooling=True)
        score = _score(_class_logits(model, tokens, beside, weighted), question)
        return torch.autograd.grad(score.sum(), bias)[0].squeeze(1)


def _copied(nested: object) -> object:
    """The same with every tensor in it copied."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, nested)


def _first_cells(model: EditableViT, images: Tensor, effect: Tensor) -> Tensor:
    """The REFINED cells that come first by the size of the effect, or by rollout: bool [B, gh * gw]."""
    flow = attention_maps(model, images)[1].rollout.flatten(1)
    ranks = [x.argsort(1, descending=True).argsort(1) for x in (effect.abs(), flow)]
    best = torch.minimum(*ranks).argsort(dim=1, stable=True)[:, :REFINED]
    return torch.zeros_like(effect, dtype=torch.bool).scatter(1, best, True)


def _class_logits(
    model: EditableViT, tokens: Tensor, beside: Beside, edit: LayerEdit | None = None
) -> Tensor:
    """Class logits [B, K] of the tokens [B, N, C] in front of the first block, under an edit."""
    for i in range(model.depth):
        tokens, _ = model.forward_block(i, tokens, beside, edit)
    return model.classify(tokens, edit)
