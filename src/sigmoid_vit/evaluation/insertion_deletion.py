"""Insertion and deletion (RISE, Petsiuk et al., 2018): does a map name the cells that decide?"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from sklearn.metrics import auc
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from sigmoid_vit.data import Prepared
from sigmoid_vit.model.readout import attention_maps
from sigmoid_vit.model.vit import EditableViT
from sigmoid_vit.runs.network import Network

Explainer = Callable[[Tensor, Tensor], Tensor]
FIRST_POINTS = 11  # of a curve, evenly spread over its cells
POINTS = 33  # computed of the curves of a large grid, cell by cell where they change most
EVERY_CELL = 64  # cells of a grid, up to which every point is computed
FLAT = 0.01  # a change of probability
BLUR = dict(kernel_size=11, sigma=5.0)  # in pixels: the published one


@torch.no_grad()
def faithfulness(
    network: Network,
    part: Prepared,
    positions: np.ndarray,
    batch_size: int,
    start: str = "mean",
    seed: int = 0,
    others: Mapping[str, Explainer] = MappingProxyType({}),
) -> dict:
    """Insertion and deletion on the images at these positions.

    Args:
        start: what insertion brings cells into, "mean", an image of the model's mean colour, or "blur", the
            image blurred, as in the published figures. Deletion always leaves the mean colour.
        others: further orders, by name: images [B, 3, H, W] and classes int64 [B] to maps [B, gh, gw].

    Returns:
        n, start, share (of the cells touched, at each point of the curves), points (computed of each curve;
        those between are interpolated), exact (whether the decision map is), and for every order (`decision`,
        the decision map; `sigmoid`, the last layer's sigmoid attention; `rollout`; `random`, the control) the
        mean curves and the areas under them. A good order has a high insertion and a low deletion AUC.
    """
    model, (gh, gw) = network.model, network.grid
    random = torch.rand(len(positions), gh, gw, generator=torch.Generator().manual_seed(seed))
    curves, done = defaultdict(list), 0
    for images in network.attention_batches(part, positions, batch_size):
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
        with torch.enable_grad():
            orders |= {name: explain(images, predicted).detach() for name, explain in others.items()}
        empty = torch.zeros_like(images)
        begin = gaussian_blur(images, **BLUR) if start == "blur" else empty
        for order, values in orders.items():
            curves[order, "insertion"].append(probability_curve(model, begin, images, values, predicted))
            curves[order, "deletion"].append(probability_curve(model, images, empty, values, predicted))
    share = np.linspace(0, 1, gh * gw + 1).tolist()
    result = {"n": len(positions), "start": start, "share": share, "points": points_computed(gh * gw)}
    result["exact"] = network.erases_every_cell
    for (order, kind), parts in curves.items():
        curve = torch.cat(parts).mean(0).tolist()
        result.setdefault(order, {}).update({f"{kind}_auc": float(auc(share, curve)), f"{kind}_curve": curve})
    return result


def points_computed(cells: int) -> int:
    """How many points of a curve over this many cells are computed."""
    return cells + 1 if cells <= EVERY_CELL else POINTS


def probability_curve(
    model: EditableViT, before: Tensor, after: Tensor, maps: Tensor, classes: Tensor
) -> Tensor:
    """Probability of the given classes while one cell after the other changes: float32 [B, gh * gw + 1].

    On a large grid POINTS of them are computed: FIRST_POINTS evenly spread, then for each image the middle of
    the stretch over which its curve may still hide the largest area. Between them the curve is a line.

    Args:
        before, after: [B, 3, H, W], normalised. Deletion goes from the image to an empty one, 0; insertion
            from there, or from a blurred image, to the image.
        maps: [B, gh, gw]: the strongest cell changes first; equally strong ones go in reading order.
        classes: int64 [B].
    """
    cells = maps[0].numel()
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view_as(maps)

    def probability(counts: np.ndarray) -> np.ndarray:
        """With `counts`, int [B], of the cells changed."""
        changed = rank < torch.from_numpy(counts).to(rank.device)[:, None, None]
        images = cells_of(after, before, changed, model.cell_size)
        return model(images).float().softmax(1).gather(1, classes[:, None]).squeeze(1).cpu().numpy()

    curves = np.full((len(before), cells + 1), np.nan, np.float32)
    wanted = points_computed(cells)
    first = np.arange(cells + 1)
    if wanted <= cells:
        first = np.linspace(0, cells, FIRST_POINTS).round().astype(int)
    for count in first:
        curves[:, count] = probability(np.full(len(before), count))
    for _ in range(wanted - len(first)):
        counts = np.array([_least_known(curve) for curve in curves])
        curves[np.arange(len(curves)), counts] = probability(counts)
    every = np.arange(cells + 1)
    lines = [np.interp(every, every[~np.isnan(c)], c[~np.isnan(c)]) for c in curves]
    return torch.from_numpy(np.stack(lines)).float()


def _least_known(curve: np.ndarray) -> int:
    """The middle of the stretch between known points in which the area may be off by most.

    A stretch of w cells over which the curve changes by d may hide an area of w x d. A flat one may hide a
    peak: it counts as if it changed by FLAT.
    """
    known = np.flatnonzero(~np.isnan(curve))
    width, change = np.diff(known), np.abs(np.diff(curve[known]))
    longest = np.where(width > 1, width * (change + FLAT), -1).argmax()
    return int(known[longest] + width[longest] // 2)


def cells_of(images: Tensor, others: Tensor, taken: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """`others` [B, 3, H, W] with those cells of `images` where `taken`, bool [B, gh, gw], is true."""
    height, width = patch_size
    pixels = taken.repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None]
    pixels = pixels[..., : images.shape[-2], : images.shape[-1]]
    mixed = others.clone()  # no patch reads what is left at the edge
    patches = (..., slice(pixels.shape[-2]), slice(pixels.shape[-1]))
    mixed[patches] = torch.where(pixels, images[patches], others[patches])
    return mixed
