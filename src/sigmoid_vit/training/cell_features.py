"""What is known of each cell of an image, and the classifier that learns from it which cells people erase.

A cell is a row of numbers: its token in front of the blocks, its pixels' means, spread and a thumbnail, and
its position. Memory is bounded: at most MOST_CELLS rows are learned, and other images pass by in batches.
"""

import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor

from sigmoid_vit.data import Prepared
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.model.vit import EditableViT
from sigmoid_vit.runs.network import Network

MOST_BLOCKS = 4  # in front of so many blocks, evenly from the first to the last, tokens are read
MOST_CELLS = 8_000  # rows that one classifier learns
BATCH_BYTES = 2**26  # of the features of one batch of images
THUMBNAIL = 4  # pixels a side
TREES = 300
FEATURES_TRIED = 80  # at each branching of a tree
KEPT = 0.5  # an edited value from here on keeps its cell, one below it erases it


def erased_cells(maps: EditMaps) -> Tensor:
    """Which cells the edits erase: bool [n, gh, gw]."""
    return maps.edited & (maps.value < KEPT)


@dataclass
class LabelledCells:
    """Edited cells of some images, a row each, and whether they were erased."""

    features: np.ndarray  # float32 [m, D]
    erased: np.ndarray  # bool [m]
    image: np.ndarray  # int64 [m], positions of their images in the part

    @classmethod
    def of(
        cls, network: Network, part: Prepared, maps: EditMaps, images: np.ndarray, seed: int
    ) -> "LabelledCells":
        """The edited cells of the images at these positions; a random choice (seeded) where there are many.

        Args:
            maps: the edits of all images of `part`.
        """
        edited, erased = (t[images].flatten(1).numpy() for t in (maps.edited, erased_cells(maps)))
        chosen = _choose(edited, erased, np.random.default_rng(seed))
        rows, start = [], 0
        for features in cell_features(network, part, images):
            rows.append(features[chosen[start : start + len(features)]])
            start += len(features)
        image = np.broadcast_to(images[:, None], chosen.shape)
        return cls(np.concatenate(rows), erased[chosen], image[chosen])


class CellClassifier:
    """A forest of randomised trees (Geurts et al. 2006) that tells erased cells from kept ones.

    Args:
        cells: what it learns.
        images: positions of the images whose cells it learns; those of others are left out.
    """

    def __init__(self, cells: LabelledCells, images: np.ndarray, seed: int) -> None:
        learned = np.isin(cells.image, images)
        tried = min(FEATURES_TRIED, cells.features.shape[1])
        forest = dict(class_weight="balanced", random_state=seed, n_jobs=-1)
        self.forest = ExtraTreesClassifier(TREES, max_features=tried, **forest)
        with warnings.catch_warnings():  # scikit-learn's threads can leave the process without its filters
            self.forest.fit(cells.features[learned], cells.erased[learned])

    def erased(self, network: Network, part: Prepared, images: np.ndarray) -> Tensor:
        """The probability that each cell of these images is to be erased, float32 [n, gh, gw]."""
        found = [torch.zeros(0, *network.grid)]
        for features in cell_features(network, part, images):
            with warnings.catch_warnings():
                shares = self.forest.predict_proba(features.reshape(-1, features.shape[-1]))
            share = shares @ self.forest.classes_  # of one kind alone, the column of the other is missing
            found.append(torch.from_numpy(share).float().view(-1, *network.grid))
        return torch.cat(found)


@torch.no_grad()
def cell_features(network: Network, part: Prepared, images: np.ndarray) -> Iterator[np.ndarray]:
    """The features of all cells of the images at these positions, float32 [B, gh * gw, D], batch by batch.

    The tokens come from the network's device, in its precision.
    """
    if not len(images):
        return
    model, a = network.model, network.accelerator
    training = model.training
    row = 4 * (len(blocks_read(model)) * model.embed_dim + 3 * (2 + THUMBNAIL**2) + 2)
    at_once = max(1, min(network.batch_size, BATCH_BYTES // (row * np.prod(network.grid))))
    for x in network.batches(part, images, at_once):
        model.eval()
        with a.autocast() if a else nullcontext():
            tokens = _tokens(model, x)
        model.train(training)
        pixels = _pixels(x.float(), network.grid)
        place = _positions(network.grid).to(x.device).expand(len(x), -1, -1)
        yield torch.cat([*tokens, pixels, place], dim=2).cpu().numpy()


def blocks_read(model: EditableViT) -> list[int]:
    """The blocks in front of which tokens are read: all, or MOST_BLOCKS of a deep network."""
    depth = model.depth
    return np.linspace(0, depth - 1, min(depth, MOST_BLOCKS)).round().astype(int).tolist()


def _tokens(model: EditableViT, images: Tensor) -> list[Tensor]:
    """The patches' tokens in front of the blocks read, each [B, gh * gw, C]."""
    blocks, (x, beside), found = blocks_read(model), model.embed(images), []
    for i in range(blocks[-1] + 1):
        if i in blocks:
            found.append(x[:, model.num_prefix_tokens :].float())
        if i < blocks[-1]:
            x, _ = model.forward_block(i, x, beside)
    return found


def _pixels(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean, standard deviation and thumbnail of each cell's pixels, a channel after the other: [B, N, D]."""
    gh, gw = grid
    mean, square = (F.adaptive_avg_pool2d(x, grid) for x in (images, images.square()))
    spread = (square - mean.square()).clamp(min=0).sqrt()
    small = F.adaptive_avg_pool2d(images, (gh * THUMBNAIL, gw * THUMBNAIL))
    return torch.cat([mean, spread, F.pixel_unshuffle(small, THUMBNAIL)], dim=1).flatten(2).transpose(1, 2)


def _positions(grid: tuple[int, int]) -> Tensor:
    """Row and column of each cell, 0 to 1: [gh * gw, 2]."""
    return torch.cartesian_prod(*(torch.linspace(0, 1, cells) for cells in grid)).float()


def _choose(edited: np.ndarray, erased: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """At most MOST_CELLS of the edited cells, bool [n, gh * gw]: both kinds in proportion, to an eighth.

    In equal numbers they would teach that the rarer kind is as common as the other.
    """
    kinds = sorted((np.flatnonzero(cells) for cells in (erased, edited & ~erased)), key=len)
    in_proportion = MOST_CELLS * len(kinds[0]) // max(1, edited.sum())
    fewer = random.permutation(kinds[0])[: max(in_proportion, MOST_CELLS // 8)]
    more = random.permutation(kinds[1])[: MOST_CELLS - len(fewer)]
    chosen = np.zeros(edited.size, dtype=bool)
    chosen[np.concatenate([fewer, more])] = True
    return chosen.reshape(edited.shape)
