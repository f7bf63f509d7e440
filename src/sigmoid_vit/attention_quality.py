"""How good the network's own attention is: does it lie where people marked, and does it name what decides?

Two different claims. Against masks: pointing game, EPG, IoU. Without masks: insertion and deletion AUC.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import auc
from torch import Tensor
from torchmetrics.functional.segmentation import mean_iou

from sigmoid_vit.data import BatchTransform, Prepared
from sigmoid_vit.human_attention.cover import Marked
from sigmoid_vit.human_attention.selection import stratified
from sigmoid_vit.model import SigmoidViT

IOU_THRESHOLD = 0.5  # on sigmoid attention; on softmax attention and rollout, of their maximum
STEPS = 10  # in which cells are taken away or brought in
MEMORY = 2**30  # bytes of attention logits that one batch may take


class AttentionViews(NamedTuple):
    """The attention of the class token over the patches of B images, as a mean over the heads.

    Where there is no class token, the mean over the rows of the patches.
    """

    sigmoid: Tensor  # sigmoid attention of every layer, 0..1 [B, layers, gh, gw]
    softmax: Tensor  # attention of every layer: shares of all N tokens, prefix tokens left out; same shape
    rollout: Tensor  # attention rollout over all layers, shares as above, [B, gh, gw]


@torch.no_grad()
def attention_views(model: SigmoidViT, images: Tensor) -> tuple[Tensor, AttentionViews]:
    """Class logits [B, K] and the views of the attention for images [B, 3, H, W]."""
    class_logits, logits = model.forward_with_attention(images, layers="all", queries="all")
    rows = looking_rows(model)
    attention = [layer.softmax(-1).mean(1) for layer in logits.values()]  # layers x [B, N, N]
    sigmoid = torch.stack([layer[:, :, rows].sigmoid().mean((1, 2)) for layer in logits.values()], 1)
    softmax = torch.stack([layer[:, rows].mean(1) for layer in attention], 1)  # [B, layers, N]
    grid = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    views = (
        tokens[..., model.num_prefix_tokens :].unflatten(-1, grid)
        for tokens in (sigmoid, softmax, rollout(attention, rows))
    )
    return class_logits, AttentionViews(*views)


def looking_rows(model: SigmoidViT) -> slice:
    """The query rows whose attention is shown: the class token's, else those of all patches."""
    return slice(0, 1) if model.has_class_token else slice(model.num_prefix_tokens, None)


def rollout(attention: Sequence[Tensor], rows: slice) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how much of each input token reaches the `rows`, [B, N].

    The product of A/2 + I/2 over the layers, I standing for the skip connection; the mean of its `rows`. The
    rows of each A sum to 1, so those of the product do, and there is nothing to normalise.

    Args:
        attention: softmax attention of each layer, first layer first, mean over heads, [B, N, N].
    """
    identity = torch.eye(attention[0].shape[-1], device=attention[0].device, dtype=attention[0].dtype)
    flow = identity[rows].mean(0, keepdim=True)  # [1, N]; a row times each layer instead of N x N x N
    for layer in reversed(attention):
        flow = (flow + flow @ layer) / 2  # [B, 1, N]
    return flow.squeeze(1)


def pointing_game(maps: Tensor, cover: Tensor) -> Tensor:
    """Whether the strongest cell lies inside, 0 or 1 for each image: [B].

    A cell is inside when any of it is marked, so that thin objects count. Of equally strong cells it is the
    share that lies inside; a uniform map therefore has the chance level.

    Args:
        maps: attention [B, gh, gw], at least 0.
        cover: share of each cell that is marked, 0..1 [B, gh, gw], as in `epg` and `iou`.
    """
    strongest = maps == maps.amax((1, 2), keepdim=True)
    return (strongest & (cover > 0)).sum((1, 2)) / strongest.sum((1, 2))


def epg(maps: Tensor, cover: Tensor) -> Tensor:
    """Energy pointing game: share of the attention over the patches that falls inside, 0..1 [B].

    A cell counts with the share of it that is marked: `cover`.
    """
    return (maps * cover).sum((1, 2)) / maps.sum((1, 2)).clamp(min=torch.finfo(maps.dtype).tiny)


def iou(maps: Tensor, cover: Tensor, threshold: float = IOU_THRESHOLD) -> Tensor:
    """Intersection over union of the cells at `threshold` or more and those inside, 0..1 [B].

    A cell is inside when any of it is marked.
    """
    return mean_iou((maps >= threshold)[:, None], (cover > 0)[:, None], num_classes=1)


MEASURES = {"pointing_game": pointing_game, "epg": epg, "iou": iou}


def against_masks(
    model: SigmoidViT, part: Prepared, transform: BatchTransform, marked: Marked, batch_size: int
) -> dict:
    """Pointing game, EPG and IoU of every view, means over the marked images; `chance`: of a uniform map."""
    positions = np.array(sorted(marked.cover))
    cover = torch.from_numpy(np.stack([marked.cover[i] for i in positions])).float()
    batches = [
        [view.cpu() for view in attention_views(model, images)[1]]
        for images in _inputs(model, part, transform, positions, batch_size)
    ]
    views = AttentionViews(*map(torch.cat, zip(*batches, strict=True)))

    def figures(maps: Tensor) -> dict[str, float]:
        return {name: measure(maps, cover).mean().item() for name, measure in MEASURES.items()}

    return {
        "from": marked.source,
        "n": len(positions),
        "iou_threshold": IOU_THRESHOLD,
        "chance": figures(torch.ones_like(cover)),
        "sigmoid": {str(i): figures(maps) for i, maps in enumerate(views.sigmoid.unbind(1))},
        "softmax": {str(i): figures(_of_maximum(maps)) for i, maps in enumerate(views.softmax.unbind(1))},
        "rollout": figures(_of_maximum(views.rollout)),
    }


@torch.no_grad()
def faithfulness(
    model: SigmoidViT,
    part: Prepared,
    transform: BatchTransform,
    positions: np.ndarray,
    batch_size: int,
    seed: int = 0,
) -> dict:
    """Insertion and deletion (RISE, Petsiuk et al., 2018) on the images at these positions.

    Returns:
        n, steps, share (of the cells touched, at each point of the curves), and for every order (`sigmoid`,
        the last layer's sigmoid attention; `rollout`; `random`, the control) the mean curves and the areas
        under them. A good order has a high insertion and a low deletion AUC.
    """
    gh, gw = model.patch_embed.dynamic_feat_size(transform.size)
    steps = min(STEPS, gh * gw)
    counts = np.linspace(0, gh * gw, steps + 1).round().astype(int)
    random = torch.rand(len(positions), gh, gw, generator=torch.Generator().manual_seed(seed))
    curves, done = defaultdict(list), 0
    for images in _inputs(model, part, transform, positions, batch_size):
        class_logits, views = attention_views(model, images)
        predicted = class_logits.argmax(1)
        control = random[done : done + len(images)].to(images.device)
        done += len(images)
        orders = {"sigmoid": views.sigmoid[:, -1], "rollout": views.rollout, "random": control}
        for order, maps in orders.items():
            for kind in ("insertion", "deletion"):
                curve = probability_curve(model, images, maps, predicted, counts, kind == "insertion")
                curves[order, kind].append(curve.cpu())
    share = (counts / (gh * gw)).tolist()
    result = {"n": len(positions), "steps": steps, "share": share}
    for (order, kind), parts in curves.items():
        curve = torch.cat(parts).mean(0).tolist()
        result.setdefault(order, {}).update({f"{kind}_auc": float(auc(share, curve)), f"{kind}_curve": curve})
    return result


def probability_curve(
    model: SigmoidViT, images: Tensor, maps: Tensor, classes: Tensor, counts: Sequence[int], insert: bool
) -> Tensor:
    """Probability of the given classes while cells come or go, the strongest first: [B, len(counts)].

    Args:
        images: [B, 3, H, W], normalised: taken-away pixels are 0, the model's mean colour.
        maps: [B, gh, gw]; equally strong cells go in reading order.
        classes: int64 [B].
        counts: how many cells are touched at each point.
        insert: bring them into an empty image, instead of taking them away from the whole one.
    """
    rank = (
        maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view_as(maps)
    )  # 0: strongest
    points = []
    for count in counts:
        shown = (rank < count) if insert else (rank >= count)
        probabilities = model(hide_cells(images, shown, model.patch_embed.patch_size)).float().softmax(1)
        points.append(probabilities.gather(1, classes[:, None]))
    return torch.cat(points, 1)


def hide_cells(images: Tensor, shown: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Images [B, 3, H, W] whose cells are 0 where `shown`, bool [B, gh, gw], is false."""
    height, width = patch_size
    pixels = shown.repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None]
    hidden = images.clone()
    patches = hidden[..., : pixels.shape[-2], : pixels.shape[-1]]  # no patch reads what is left at the edge
    patches *= pixels[..., : patches.shape[-2], : patches.shape[-1]]
    return hidden


def attention_quality(
    model: SigmoidViT,
    part: Prepared,
    transform: BatchTransform,
    marked: Marked,
    batch_size: int = 64,
    sample: int = 50,
) -> dict:
    """All of it: `masks`, where something is marked, and `faithfulness` on `sample` images (0 for none).

    The sample is drawn over the classes, the same for every network. The model is in eval mode, in float32.
    """
    result = {}
    if marked.cover:
        result["masks"] = against_masks(model, part, transform, marked, batch_size)
    if sample:
        positions = np.sort(stratified(part.part.labels, min(sample, len(part)), seed=0))
        result["faithfulness"] = faithfulness(model, part, transform, positions, batch_size)
    return result


def summary(quality: dict) -> list[str]:
    """What `attention_quality` returns, in a line for the masks and one for faithfulness."""
    lines = []
    if masks := quality.get("masks"):
        last = str(len(masks["sigmoid"]) - 1)
        views = {"last layer": masks["sigmoid"][last], "rollout": masks["rollout"], "chance": masks["chance"]}
        told = (
            f"{name} {figures['epg']:.3f} / {figures['pointing_game']:.3f} / {figures['iou']:.3f}"
            for name, figures in views.items()
        )
        lines.append(f"EPG / pointing game / IoU on {masks['n']} {masks['from']}: {', '.join(told)}")
    if curves := quality.get("faithfulness"):
        orders = {"last layer": "sigmoid", "rollout": "rollout", "random order": "random"}
        told = (
            f"{name} {curves[order]['insertion_auc']:.3f} / {curves[order]['deletion_auc']:.3f}"
            for name, order in orders.items()
        )
        lines.append(f"insertion / deletion AUC on {curves['n']} images: {', '.join(told)}")
    return lines


def _inputs(
    model: SigmoidViT, part: Prepared, transform: BatchTransform, positions: np.ndarray, batch_size: int
) -> Iterator[Tensor]:
    """The network's input for these images, in batches whose N x N attention logits fit into MEMORY."""
    gh, gw = model.patch_embed.dynamic_feat_size(transform.size)
    tokens = model.num_prefix_tokens + gh * gw
    bytes_per_image = 4 * len(model.blocks) * model.blocks[0].attn.num_heads * tokens**2
    size = max(1, min(batch_size, MEMORY // bytes_per_image))
    device = next(model.parameters()).device
    for images, _, index in part.batches(np.split(positions, range(size, len(positions), size))):
        yield transform(images.to(device), index)


def _of_maximum(maps: Tensor) -> Tensor:
    """Maps [B, gh, gw] divided by their own maximum."""
    return maps / maps.amax((1, 2), keepdim=True)
