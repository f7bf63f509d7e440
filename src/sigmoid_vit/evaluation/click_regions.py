"""How well the region of one click agrees with a mask, beside trivial answers and the network's own tokens.

Each mask is clicked at its most inner point. Every answer is a distance of the cells from there; how far the
region reaches is fixed: the best distance for one half of the images is measured on the other half.
"""

import heapq

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from sigmoid_vit.annotations.cells import MARKED, cell_means
from sigmoid_vit.annotations.click import SUGGESTED, cell_distances, size_for
from sigmoid_vit.annotations.sources import Source
from sigmoid_vit.data import Prepared
from sigmoid_vit.errors import UserError
from sigmoid_vit.runs.network import Network

TRIED = 400  # distances, at most

Curve = tuple[np.ndarray, np.ndarray]  # the distances at which cells join, rising, and the IoU from there on


def click_regions(network: Network, part: Prepared, masks: Source) -> dict[str, dict[str, float]]:
    """The IoU of the cells that one click marks with those that a mask touches, by kind of answer.

    Returns:
        n, mean, std, of the images that chose nothing; reach, the distance that the others chose; at_best,
        the mean over all images with the best distance for each of them, as a person may find it with the
        wheel; and of "region" suggested, the mean over all with the distance that the editor begins with.

    Raises:
        UserError: fewer than two images have a mask.
    """
    curves, labels = [], []
    for i in range(len(part)):
        mask = masks.read(i)
        if mask is not None and (marked := mask >= MARKED).any():
            inside = (cell_means(marked, network.grid) > 0).ravel()
            distances = _distances(network, part, i, most_inner_point(marked))
            curves.append({kind: _iou_by_reach(inside, each) for kind, each in distances.items()})
            labels.append(part.part.labels[i])
    if len(curves) < 2:
        raise UserError(f"fewer than two images of {part.part.name} are marked in {masks.where}")
    chooses = _first_halves(np.array(labels))
    return {kind: _figures(kind, [each[kind] for each in curves], chooses) for kind in curves[0]}


def most_inner_point(mask: np.ndarray) -> tuple[float, float]:
    """The pixel of a mask [h, w] farthest from its edge: (x, y) as shares of width and height."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), mask.shape)
    return (x + 0.5) / mask.shape[1], (y + 0.5) / mask.shape[0]


@torch.no_grad()
def _distances(network: Network, part: Prepared, i: int, point: tuple[float, float]) -> dict[str, np.ndarray]:
    """How far each cell of image i lies from the point, float64 [cells], by kind of answer."""
    (gh, gw), (x, y) = network.grid, point
    pixels = F.interpolate(part.pixels([i]).float(), size_for((gh, gw)), mode="bilinear", antialias=True)
    rows, columns = np.arange(gh)[:, None], np.arange(gw)
    down = np.maximum(np.maximum(rows - y * gh, y * gh - rows - 1), 0)
    across = np.maximum(np.maximum(columns - x * gw, x * gw - columns - 1), 0)
    region = cell_distances(pixels[0].permute(1, 2, 0).numpy(), point, (gh, gw))
    square = np.maximum(down, across)
    alone = np.where(square > 0, np.inf, 0.0)
    found = {"region": region, "disc": np.hypot(down, across), "square": square, "clicked cell": alone}
    tokens, beside = network.model.embed(network.inputs(part, [i]))
    for block in range(network.model.depth - 1):  # of the last one, the class token alone may be computed
        tokens, _ = network.model.forward_block(block, tokens, beside)
        clicked = int(y * gh) * gw + int(x * gw)
        found[f"tokens after block {block}"] = _along_tokens(tokens[0, -gh * gw :].cpu(), clicked, gw)
    return {kind: each.ravel() for kind, each in found.items()}


def _along_tokens(tokens: Tensor, clicked: int, columns: int) -> np.ndarray:
    """1 - the cosine similarity to the clicked cell that the best way to each cell never falls below."""
    tokens = F.normalize(tokens - tokens.mean(0), dim=1)
    difference = (1 - tokens @ tokens[clicked]).double().numpy()
    joined, heap = np.full(len(tokens), np.inf), [(0.0, clicked)]
    while heap:
        distance, cell = heapq.heappop(heap)
        if joined[cell] < np.inf:
            continue
        joined[cell] = distance
        left, right = cell % columns > 0, cell % columns < columns - 1
        for other, is_there in (
            (cell - 1, left),
            (cell + 1, right),
            (cell - columns, 1),
            (cell + columns, 1),
        ):
            if is_there and 0 <= other < len(tokens):
                heapq.heappush(heap, (max(distance, difference[other]), other))
    return joined


def _first_halves(labels: np.ndarray) -> np.ndarray:
    """The first half of each class, as photos of one thing follow each other: bool [n]."""
    turn = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    return turn < np.bincount(labels)[labels] / 2


def _figures(kind: str, curves: list[Curve], chooses: np.ndarray) -> dict[str, float]:
    reaches = np.unique(np.concatenate([distances for distances, _ in curves]))
    tried = reaches[np.linspace(0, len(reaches) - 1, min(TRIED, len(reaches))).astype(int)]
    iou = np.array([_at(curve, tried) for curve in curves])
    best = iou[chooses].mean(0).argmax()
    measured = iou[~chooses, best]
    figures = {"n": len(measured), "mean": measured.mean(), "std": measured.std(), "reach": tried[best]}
    figures["at_best"] = np.mean([values.max() for _, values in curves])
    if kind == "region":
        figures["suggested"] = np.mean([_at(curve, np.array([SUGGESTED])) for curve in curves])
    return {name: float(value) for name, value in figures.items()}


def _iou_by_reach(inside: np.ndarray, distances: np.ndarray) -> Curve:
    order = distances.argsort(kind="stable")
    order = order[np.isfinite(distances[order])]
    common = inside[order].cumsum()
    iou = common / (np.arange(1, len(order) + 1) + inside.sum() - common)
    last = np.append(np.diff(distances[order]) > 0, True)  # of cells that join together
    return distances[order][last], iou[last]


def _at(curve: Curve, reaches: np.ndarray) -> np.ndarray:
    """The IoU at these distances; below the first one, that of the clicked cell."""
    distances, iou = curve
    return iou[(np.searchsorted(distances, reaches, side="right") - 1).clip(min=0)]
