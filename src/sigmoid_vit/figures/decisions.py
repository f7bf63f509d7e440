"""What decides on many images: mean decision maps by class and by confusion, and of one image a picture."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from tqdm import tqdm

from sigmoid_vit.figures.attention_maps import decision_map_axes
from sigmoid_vit.figures.style import NAME, Picture, headed, short, style, wrapped
from sigmoid_vit.runs.network import Predictions

CLASSES_SHOWN = 12  # those whose decision is bound to one cell most
PAIRS_SHOWN = 6  # the most frequent confusions
PER_PAIR = 8  # errors of a confusion whose decision maps are computed, at most
ACROSS = 5  # groups side by side
ALL = "all images"
DRAWS = 2000  # of the chance level


@dataclass
class Decided:
    """Images that the network decided alike, and the decision maps of some of them."""

    name: str
    images: int  # how many there are
    positions: list[int]  # of the n whose decision maps were computed
    maps: Tensor  # their decision maps of the prediction, in nats [n, gh, gw]

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column of the cell that is the strongest one most often; of equals the first."""
        return divmod(int(self._strongest().argmax()), self.maps.shape[2])

    def numbers(self) -> dict:
        """How much one and the same cell decides.

        Returns:
            images; n, of the maps; cell, the row and column of the cell that is the strongest one most often;
            share, of the maps in which it is; chance, what that share would be on average if the strongest
            cells lay at random; mean and sd (None for n = 1) of the effect of erasing it, in nats.
        """
        n, (row, column) = len(self.maps), self.cell
        effect = self.maps[:, row, column].double()
        return {
            "images": self.images,
            "n": n,
            "cell": [row, column],
            "share": self._strongest().max().item() / n,
            "chance": chance_of_one_cell(n, self.maps[0].numel()),
            "mean": effect.mean().item(),
            "sd": effect.std().item() if n > 1 else None,
        }

    def _strongest(self) -> Tensor:
        """In how many of the maps each cell is the strongest one, [gh * gw]."""
        flat = self.maps.flatten(1)
        return torch.bincount(flat.argmax(1), minlength=flat.shape[1])


def chance_of_one_cell(n: int, cells: int) -> float:
    """The mean share of the most frequent of n cells that are drawn at random (seeded)."""
    draws = np.random.default_rng(0).multinomial(n, np.full(cells, 1 / cells), DRAWS)
    return float(draws.max(1).mean() / n)


def decisions(predictions: Predictions, count: int) -> tuple[list[Decided], list[Decided]]:
    """The decision maps of images by predicted class, and of errors by what was taken for what.

    Args:
        count: of how many images the maps by class are made, over the classes alike.

    Returns:
        All images, and those of each class that is predicted, in their order; and the PAIRS_SHOWN most
        frequent confusions.
    """
    classes = predictions.network.classes
    predicted, labels = predictions.classes_and_confidence()[0], predictions.labels.numpy()
    chosen = alike(predicted, count)
    pairs = Counter((t, p) for t, p in zip(labels.tolist(), predicted.tolist(), strict=True) if t != p)
    groups = [(ALL, predicted >= 0, chosen)]
    groups += [(classes[k], predicted == k, chosen[predicted[chosen] == k]) for k in np.unique(predicted)]
    for (true, answer), _ in pairs.most_common(PAIRS_SHOWN):
        which = (labels == true) & (predicted == answer)
        groups.append((f"{classes[true]} → {classes[answer]}", which, np.flatnonzero(which)[:PER_PAIR]))
    maps = _maps(predictions, np.unique(np.concatenate([at for *_, at in groups])))
    found = [
        Decided(name, int(which.sum()), at.tolist(), torch.stack([maps[i] for i in at.tolist()]))
        for name, which, at in groups
    ]
    n_pairs = min(len(pairs), PAIRS_SHOWN)
    return found[: len(found) - n_pairs], found[len(found) - n_pairs :]


def alike(classes: np.ndarray, count: int) -> np.ndarray:
    """Positions of `count` of the images, at random (seeded), of every class as many as there are or fit.

    Of every class there is at least one.
    """
    order, seen, rank = np.random.default_rng(0).permutation(len(classes)), Counter(), []
    for k in classes[order].tolist():
        rank.append(seen[k])
        seen[k] += 1
    return np.sort(order[np.argsort(rank, kind="stable")][: max(count, len(seen))])


def _maps(predictions: Predictions, positions: np.ndarray) -> dict[int, Tensor]:
    network, found = predictions.network, []
    batches = network.attention_batches(predictions.part, positions, 16)
    with tqdm(total=len(positions), desc="decision maps", disable=None, leave=False) as bar:
        for inputs in batches:
            found += network.decision_map(inputs)
            bar.update(len(inputs))
    return dict(zip(positions.tolist(), found, strict=True))


def decision_pictures(predictions: Predictions, count: int) -> dict[str, Picture]:
    """Mean decision maps by class, `decisions`, and by confusion, `confusions`, where there are errors."""
    by_class, by_pair = decisions(predictions, count)
    known = "exact" if predictions.network.erases_every_cell else "estimated"
    about = f"mean image and mean decision map ({known}; red: for the prediction)"
    drawn = {}
    for name, groups, what in (
        ("decisions", [by_class[0], *most_bound(by_class[1:])][:CLASSES_SHOWN], "by predicted class"),
        ("confusions", by_pair, "of errors, true → predicted"),
    ):
        if groups:
            means = [predictions.images(g.positions).float().mean(0) for g in groups]
            figure = draw_decided(groups, means, f"{predictions.title}: {what}\n{about}")
            drawn[name] = Picture(figure, {g.name: g.numbers() for g in (by_class, by_pair)[what[0] == "o"]})
    return drawn


def most_bound(groups: Iterable[Decided]) -> list[Decided]:
    """Those first whose strongest cell is the same one more often than by chance."""
    return sorted(groups, key=lambda group: group.numbers()["chance"] - group.numbers()["share"])


def decided_text(numbers: dict) -> str:
    """The numbers of a group in four short lines."""
    sd = "" if numbers["sd"] is None else f" ± {numbers['sd']:.2g}"
    row, column = numbers["cell"]
    return (
        f"n = {numbers['n']} of {numbers['images']}\n"
        f"framed: row {row}, column {column}\n"
        f"{numbers['mean']:.2g}{sd} nats\n"
        f"strongest in {numbers['share']:.0%} (chance {numbers['chance']:.0%})"
    )


def draw_decided(groups: Sequence[Decided], images: Sequence[Tensor], title: str = "") -> Figure:
    """Per group: the mean of its images, its mean decision map, and its numbers.

    Args:
        groups: any number.
        images: of each the mean image, float [3, h, w] in 0..255.
        title: of the whole figure.
    """
    across = min(ACROSS, max(len(groups), 3))
    rows = -(-len(groups) // across)
    with style():
        figure = Figure(figsize=(2.1 * across, 5 * rows + 0.6), layout="constrained")
        axes = figure.subplots(2 * rows, across, squeeze=False)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
        for k in range(rows * across):
            above, below = (axes[2 * (k // across) + i, k % across] for i in (0, 1))
            if k >= len(groups):
                above.set_axis_off()
                below.set_axis_off()
                continue
            group, numbers = groups[k], groups[k].numbers()
            above.imshow(images[k].permute(1, 2, 0).numpy() / 255)
            names = [short(name, NAME) for name in group.name.split(" → ")]
            above.set_title(wrapped(" → ".join(names), NAME + 4))
            decision_map_axes(below, group.maps.mean(0))
            row, column = numbers["cell"]
            below.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black"))
            below.set_xlabel(f"{below.get_xlabel()}\n{decided_text(numbers)}")
        headed(figure, f"{title}\nframed: the cell that is the strongest one most often".strip())
    return figure


def draw_decision(image: Tensor, effect: Tensor, text: str = "") -> Figure:
    """One image and its decision map, with a text below.

    Args:
        image: uint8 [3, h, w].
        effect: its decision map in nats, [gh, gw].
    """
    with style():
        figure = Figure(figsize=(5, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.imshow(image.permute(1, 2, 0).numpy(), extent=(0, 1, 0, 1))
        decision_map_axes(right, effect)
        right.set_aspect(effect.shape[1] / effect.shape[0])
        for ax, name in ((left, "image"), (right, "decision map (red: for the prediction)")):
            ax.set(xticks=[], yticks=[], title=name)
        headed(figure, text)
    return figure
