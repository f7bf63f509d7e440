"""Which images are edited, when only some are: to study how few edits are enough."""

import numpy as np
import torch
from accelerate import Accelerator

from sigmoid_vit.config import Settings
from sigmoid_vit.data import BatchTransform, Part, epoch_batches
from sigmoid_vit.prediction import predict
from sigmoid_vit.runs import Run, data_config

SELECTIONS = ("random", "errors", "uncertain", "attention_off")
OFF = 0.5  # attention is off when more than this share of it falls outside


def stratified(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Positions of n of the images with these labels: random, every class with its share to within one."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # shuffled within each class
    return order[np.arange(n) * len(order) // n]  # evenly spaced


class Judge:
    """The network of a run looking at the images of a part, to say which of them are worth an edit.

    Args:
        run: the run; its best weights are used.
        settings: the run's settings.
        part: the images. Those that cannot be read are refused or dropped: `self.part.part` is what is left.
    """

    def __init__(self, run: Run, settings: Settings, part: Part) -> None:
        s, self.weights = settings, run.best
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.model = run.load_model().to(self.accelerator.device)
        config = data_config(self.model)
        self.part = part.prepare((s.img_size, s.img_size), s.cache_gib, s.workers, config["interpolation"])
        self.transform = BatchTransform(s.img_size, **config)
        self.batch_size = min(s.batch_size, 256)

    def choose(self, select: str, candidates: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        """The candidates that `select` asks for, most urgent first.

        "errors": the misclassified, the most confident first. "uncertain": all, by the probability of the
        predicted class, the lowest first. "attention_off": those with more than half of the attention
        outside their target, most first.

        Args:
            candidates: int64 [n], positions in the part.
            targets: float [gh, gw] in 0..1 for each of them, where the attention belongs.
        """
        if select == "attention_off":
            outside = self.outside(candidates, targets)
            return candidates[_descending(outside, outside > OFF)]
        logits, labels = predict(self.model, self.part, self.transform, self.batch_size, self.accelerator)
        confidence, prediction = (x.numpy()[candidates] for x in logits.softmax(1).max(1))
        if select == "uncertain":
            return candidates[np.argsort(confidence, kind="stable")]
        return candidates[_descending(confidence, prediction != labels.numpy()[candidates])]

    @torch.no_grad()
    def outside(self, candidates: np.ndarray, targets: list[np.ndarray]) -> np.ndarray:
        """Share of the last block's attention over the patches that falls outside the targets: [n] in 0..1.

        It is the attention itself (after the softmax) of the class token, or of all patches where there is
        no class token, as a mean over the heads.
        """
        queries = "cls" if self.model.has_class_token else "all"
        batches = epoch_batches(len(candidates), self.batch_size, seed=0, epoch=0, shuffle=False)
        inputs = self.part.batches([candidates[rows] for rows in batches])
        shares = []
        for rows, (images, _, index) in zip(batches, inputs, strict=True):
            x = self.transform(images.to(self.accelerator.device), index)
            _, logits = self.model.forward_with_attention(x, layers="last", queries=queries)
            patches = next(iter(logits.values()))[..., self.model.num_prefix_tokens :]  # [B, H, Q, gh * gw]
            attention = patches.float().softmax(-1).mean((1, 2)).cpu().numpy()
            target = np.stack([targets[row] for row in rows]).reshape(attention.shape)
            shares.append((attention * (1 - target)).sum(1))
        return np.concatenate(shares)


def _descending(score: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Positions where `which` is true, the highest score first."""
    there = np.flatnonzero(which)
    return there[np.argsort(-score[there], kind="stable")]
