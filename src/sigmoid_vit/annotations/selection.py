"""Which images are edited, when only some are: to study how few edits are enough."""

import numpy as np
import torch

from sigmoid_vit.annotations.marked import outside
from sigmoid_vit.data import Prepared
from sigmoid_vit.model.readout import softmax_attention
from sigmoid_vit.runs import ranking
from sigmoid_vit.runs.network import Network

SELECTIONS = ("random", "errors", "uncertain", "attention_off")
OFF = 0.5  # attention is off when more than this share of it falls outside


def stratified(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Positions of n of the images with these labels: random, every class with its share to within one."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # shuffled within each class
    return order[np.arange(n) * len(order) // n]  # evenly spaced


def choose(
    select: str, network: Network, part: Prepared, candidates: np.ndarray, targets: list[np.ndarray]
) -> np.ndarray:
    """The candidates that `select` asks for, most urgent first, as the network sees them.

    "errors": the misclassified, the most confident first. "uncertain": all, by the probability of the
    predicted class, the lowest first. "attention_off": those with more than half of the attention outside
    their target, most first.

    Args:
        candidates: int64 [n], positions in the part.
        targets: float [gh, gw] in 0..1 for each of them, where the attention belongs.
    """
    if select == "attention_off":
        off = attention_outside(network, part, candidates, targets)
        return candidates[ranking.highest_first(off, off > OFF)]
    predictions = network.predict(part)
    prediction, confidence = (x[candidates] for x in predictions.classes_and_confidence())
    if select == "uncertain":
        return candidates[ranking.least_sure(prediction, confidence)]
    return candidates[ranking.confident_errors(prediction, confidence, part.part.labels[candidates])]


def attention_outside(
    network: Network, part: Prepared, positions: np.ndarray, targets: list[np.ndarray]
) -> np.ndarray:
    """Share of the last layer's attention outside the target, for the images at these positions: [n] in 0..1.

    See `marked.outside`; the editor's queue and `evaluate` (1 - EPG of the softmax attention) show the same.
    """
    target = torch.from_numpy(np.stack(targets)).float()
    batches = network.batches(part, positions, network.batch_size)
    maps = [softmax_attention(network.model, images)[1].float().cpu() for images in batches]
    return outside(torch.cat(maps), target).numpy()
