"""Does the network decide by the object? Its accuracy with everything around the object hidden or exchanged.

The second is the Mixed-Rand test of Xiao et al., Noise or Signal (2021), by cells of the patch grid.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sigmoid_vit.annotations.marked import MarkedCells
from sigmoid_vit.errors import UserError
from sigmoid_vit.evaluation.insertion_deletion import cells_of
from sigmoid_vit.evaluation.metrics import classification_metrics
from sigmoid_vit.runs.network import Predictions

AROUND = 1  # cells around the marked ones that count as the object's
FIGURES = ("top1", "macro_accuracy")


@torch.no_grad()
def background_test(predictions: Predictions, marked: MarkedCells, batch_size: int, seed: int = 0) -> dict:
    """Accuracy on the marked images as they are, without their background, and with that of another image.

    The object is every cell that is marked a little, with AROUND cells around it; the background is the rest.
    Hidden, it has the mean colour. Exchanged, it is the background of a marked image of another class, drawn
    at random (seeded); where that image has its own object, the mean colour.

    Returns:
        n, of the images; background, the mean share of the cells that it is; commonest_class; and FIGURES,
        0..1, of `as_is`, `hidden` and `exchanged`.

    Raises:
        UserError: all marked images are of one class, or nothing is marked.
    """
    network, part = predictions.network, predictions.part
    positions = np.array(sorted(marked.cover), dtype=int)
    labels = predictions.labels[positions]
    if len(labels.unique()) < 2:
        raise UserError(
            f"--backgrounds needs marked images of at least two classes; those of {part.part.name} are of "
            f"{len(labels.unique())}: name masks with --masks, or edits with --edits"
        )
    objects = object_cells(torch.from_numpy(np.stack([marked.cover[i] for i in positions])))
    others = images_of_another_class(labels.numpy(), seed)
    found = {"hidden": [], "exchanged": []}
    for chosen in torch.arange(len(positions)).split(batch_size):
        inputs = network.inputs(part, positions[chosen].tolist())
        donors = network.inputs(part, positions[others[chosen]].tolist())
        own, theirs = (cells.to(inputs.device) for cells in (objects[chosen], objects[others[chosen]]))
        size, empty = network.model.cell_size, torch.zeros_like(inputs)
        backgrounds = {"hidden": empty, "exchanged": cells_of(donors, empty, ~theirs, size)}
        for name, background in backgrounds.items():
            logits = network.model(cells_of(inputs, background, own, size))
            found[name].append(logits.float().softmax(1).cpu())
    probabilities = {"as_is": predictions.probabilities[positions]}
    probabilities |= {name: torch.cat(parts) for name, parts in found.items()}
    figures = {name: classification_metrics(p, labels, network.classes) for name, p in probabilities.items()}
    return {
        "n": len(positions),
        "background": 1 - objects.double().mean().item(),
        "commonest_class": figures["as_is"]["commonest_class"],
        **{name: {key: f[key] for key in FIGURES} for name, f in figures.items()},
    }


def object_cells(cover: Tensor) -> Tensor:
    """The cells [n, gh, gw] of which a share is marked, and AROUND cells around them: bool [n, gh, gw]."""
    marked = (cover > 0).float()[:, None]
    return F.max_pool2d(marked, 2 * AROUND + 1, stride=1, padding=AROUND).squeeze(1).bool()


def images_of_another_class(labels: np.ndarray, seed: int) -> np.ndarray:
    """For each of n images the position of a random one of another class, int64 [n]."""
    random = np.random.default_rng(seed)
    return np.array([random.choice(np.flatnonzero(labels != label)) for label in labels])


def background_text(found: dict) -> str:
    """What `background_test` found, in a text for the person."""
    trivial = found["commonest_class"]
    rows = {
        "as they are": found["as_is"],
        "background hidden": found["hidden"],
        "background of an image of another class": found["exchanged"],
        f"{trivial['class']!r} for every image": trivial,
    }
    figures = (f"{name} {f['top1']:.4f} / {f['macro_accuracy']:.4f}" for name, f in rows.items())
    share = f"{found['background']:.0%} of the cells are background"
    return "\n  ".join([f"top1 / macro on the {found['n']} marked images ({share}):", *figures])
