"""How good the network's own attention is: does it lie where people marked, and does it name what decides?

Two different claims. Against masks: pointing game, EPG, IoU. Without masks: insertion and deletion AUC.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sklearn.metrics import auc
from torch import Tensor

from sigmoid_vit.annotations.marked import IOU_THRESHOLD, MEASURES, MarkedCells
from sigmoid_vit.annotations.selection import stratified
from sigmoid_vit.data import Prepared
from sigmoid_vit.model.readout import AttentionMaps, attention_maps
from sigmoid_vit.model.vit import SigmoidViT
from sigmoid_vit.runs.network import Network

STEPS = 10  # in which cells are taken away or brought in
MEMORY = 2**30  # bytes of attention logits that one batch may take
DECISIONS = 50  # images whose decision map is compared with the masks, at most


def against_masks(network: Network, part: Prepared, marked: MarkedCells, batch_size: int) -> dict:
    """Pointing game, EPG and IoU of every map, means over the marked images; `chance`: of a uniform map.

    `decision` is of the decision map, where it is above 0, on DECISIONS of the images at most, with its own n
    and `chance`.
    """
    positions = np.array(sorted(marked.cover))
    cover = _cover(marked, positions)
    batches = [
        [kind.cpu() for kind in attention_maps(network.model, images)[1]]
        for images in _inputs(network, part, positions, batch_size)
    ]
    found = AttentionMaps(*map(torch.cat, zip(*batches, strict=True)))

    def figures(maps: Tensor, cover: Tensor = cover) -> dict[str, float]:
        return {name: measure(maps, cover).mean().item() for name, measure in MEASURES.items()}

    few = positions[np.linspace(0, len(positions) - 1, min(DECISIONS, len(positions))).round().astype(int)]
    inputs = _inputs(network, part, few, batch_size)
    effects = torch.cat([network.decision_map(x) for x in inputs])
    of_few = _cover(marked, few)
    return {
        "from": marked.source,
        "n": len(positions),
        "iou_threshold": IOU_THRESHOLD,
        "chance": figures(torch.ones_like(cover)),
        "sigmoid": {str(i): figures(maps) for i, maps in enumerate(found.sigmoid.unbind(1))},
        "softmax": {str(i): figures(_of_maximum(maps)) for i, maps in enumerate(found.softmax.unbind(1))},
        "rollout": figures(_of_maximum(found.rollout)),
        "decision": {
            "n": len(few),
            "exact": network.erases_every_cell,
            **figures(_of_maximum(effects.clamp(min=0)), of_few),
            "chance": figures(torch.ones_like(of_few), of_few),
        },
    }


def _cover(marked: MarkedCells, positions: np.ndarray) -> Tensor:
    """The share of each cell marked on the images at these positions, [n, gh, gw]."""
    return torch.from_numpy(np.stack([marked.cover[i] for i in positions])).float()


@torch.no_grad()
def faithfulness(
    network: Network, part: Prepared, positions: np.ndarray, batch_size: int, seed: int = 0
) -> dict:
    """Insertion and deletion (RISE, Petsiuk et al., 2018) on the images at these positions.

    Returns:
        n, steps, share (of the cells touched, at each point of the curves), exact (whether the decision map
        is), and for every order (`decision`, the decision map; `sigmoid`, the last layer's sigmoid attention;
        `rollout`; `random`, the control) the mean curves and the areas under them. A good order has a high
        insertion and a low deletion AUC.
    """
    model, (gh, gw) = network.model, network.grid
    steps = min(STEPS, gh * gw)
    counts = np.linspace(0, gh * gw, steps + 1).round().astype(int)
    random = torch.rand(len(positions), gh, gw, generator=torch.Generator().manual_seed(seed))
    curves, done = defaultdict(list), 0
    for images in _inputs(network, part, positions, batch_size):
        class_logits, maps = attention_maps(model, images)
        predicted = class_logits.argmax(1)
        control = random[done : done + len(images)].to(images.device)
        done += len(images)
        effect = network.decision_map(images, predicted).to(images.device)
        orders = {
            "decision": effect,
            "sigmoid": maps.sigmoid[:, -1],
            "rollout": maps.rollout,
            "random": control,
        }
        for order, values in orders.items():
            for kind in ("insertion", "deletion"):
                curve = probability_curve(model, images, values, predicted, counts, kind == "insertion")
                curves[order, kind].append(curve.cpu())
    share = (counts / (gh * gw)).tolist()
    result = {"n": len(positions), "steps": steps, "share": share, "exact": network.erases_every_cell}
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
    network: Network, part: Prepared, marked: MarkedCells, batch_size: int = 64, sample: int = 50
) -> dict:
    """All of it: `masks`, where something is marked, and `faithfulness` on `sample` images (0 for none).

    The sample is drawn over the classes, the same for every network, which computes in float32.
    """
    result = {}
    if marked.cover:
        result["masks"] = against_masks(network, part, marked, batch_size)
    if sample:
        positions = np.sort(stratified(part.part.labels, min(sample, len(part)), seed=0))
        result["faithfulness"] = faithfulness(network, part, positions, batch_size)
    return result


def summary(quality: dict) -> list[str]:
    """What `attention_quality` returns, in a text for the masks and one for faithfulness."""
    lines = []
    if masks := quality.get("masks"):
        last, decision = str(len(masks["sigmoid"]) - 1), masks["decision"]
        shown = {
            "softmax, last layer": masks["softmax"][last],
            "sigmoid, last layer": masks["sigmoid"][last],
            "rollout": masks["rollout"],
            "chance": masks["chance"],
            f"decision map ({_kind(decision)}, {decision['n']} images)": decision,
            "chance there": decision["chance"],
        }
        figures = (
            f"{name} {f['epg']:.3f} / {f['pointing_game']:.3f} / {f['iou']:.3f}" for name, f in shown.items()
        )
        heading = f"EPG / pointing game / IoU on {masks['n']} {masks['from']}:"
        lines.append("\n  ".join([heading, *figures]))
    if curves := quality.get("faithfulness"):
        orders = {
            f"decision map ({_kind(curves)})": "decision",
            "sigmoid, last layer": "sigmoid",
            "rollout": "rollout",
            "random order": "random",
        }
        figures = (
            f"{name} {curves[order]['insertion_auc']:.3f} / {curves[order]['deletion_auc']:.3f}"
            for name, order in orders.items()
        )
        heading = f"insertion / deletion AUC on {curves['n']} images:"
        lines.append("\n  ".join([heading, *figures]))
    return lines


def _kind(figures: dict) -> str:
    return "exact" if figures["exact"] else "estimate"


def _inputs(network: Network, part: Prepared, positions: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    """The network's input for these images, in batches whose N x N attention logits fit into MEMORY."""
    model, (gh, gw) = network.model, network.grid
    tokens = model.num_prefix_tokens + gh * gw
    bytes_per_image = 4 * len(model.blocks) * model.blocks[0].attn.num_heads * tokens**2
    return network.batches(part, positions, max(1, min(batch_size, MEMORY // bytes_per_image)))


def _of_maximum(maps: Tensor) -> Tensor:
    """Maps [B, gh, gw] divided by their own maximum."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
