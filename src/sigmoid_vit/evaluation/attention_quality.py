"""How good the network's own attention is: does it lie where people marked, and does it name what decides?

Two different claims. Against masks: pointing game, EPG, IoU. Without masks: insertion and deletion AUC
(`insertion_deletion`).
"""

import numpy as np
import torch
from torch import Tensor

from sigmoid_vit.annotations.marked import IOU_THRESHOLD, MEASURES, MarkedCells
from sigmoid_vit.annotations.selection import stratified
from sigmoid_vit.data import Prepared
from sigmoid_vit.evaluation.insertion_deletion import faithfulness
from sigmoid_vit.runs.network import Network

DECISIONS = 50  # images whose decision map is compared with the masks, at most


def against_masks(network: Network, part: Prepared, marked: MarkedCells, batch_size: int) -> dict:
    """Pointing game, EPG and IoU of every map, means over the marked images; `chance`: of a uniform map.

    `decision` is of the decision map, where it is above 0, on DECISIONS of the images at most, with its own n
    and `chance`.
    """
    positions = np.array(sorted(marked.cover))
    cover = _cover(marked, positions)
    found = network.attention_maps(part, positions)

    def figures(maps: Tensor, cover: Tensor = cover) -> dict[str, float]:
        return {name: measure(maps, cover).mean().item() for name, measure in MEASURES.items()}

    few = positions[np.linspace(0, len(positions) - 1, min(DECISIONS, len(positions))).round().astype(int)]
    inputs = network.attention_batches(part, few, batch_size)
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


def attention_quality(
    network: Network,
    part: Prepared,
    marked: MarkedCells,
    batch_size: int = 64,
    sample: int = 50,
    insertion_start: str = "mean",
) -> dict:
    """All of it: `masks`, where something is marked, and `faithfulness` on `sample` images (0 for none).

    The sample is drawn over the classes, the same for every network, which computes in float32.
    `insertion_start` is the `start` of `faithfulness`.
    """
    result = {}
    if marked.cover:
        result["masks"] = against_masks(network, part, marked, batch_size)
    if sample:
        positions = np.sort(stratified(part.part.labels, min(sample, len(part)), seed=0))
        result["faithfulness"] = faithfulness(network, part, positions, batch_size, insertion_start)
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
        computed = f"{curves['points']} of {len(curves['share'])} points computed"
        heading = f"insertion / deletion AUC on {curves['n']} images, cell by cell ({computed}):"
        if curves["start"] == "blur":
            heading = heading.replace("insertion", "insertion into the blurred image", 1)
        lines.append("\n  ".join([heading, *figures]))
    return lines


def _kind(figures: dict) -> str:
    return "exact" if figures["exact"] else "estimate"


def _of_maximum(maps: Tensor) -> Tensor:
    """Maps [B, gh, gw] divided by their own maximum."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
