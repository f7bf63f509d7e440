"""How much attention lies on the erased cells, and what they do to the answers: before and after Step 2."""

import numpy as np
import torch

from sigmoid_vit.data import Prepared
from sigmoid_vit.edits.maps import EditMaps
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.runs.network import Network
from sigmoid_vit.training.alignment import parse_layers

SAMPLE = 200  # images measured, at most, spread evenly over those with an erased cell
LITTLE = 0.1  # a share that falls by less than this part of itself has hardly fallen
APART = 0.1  # of the answers: the network needs the edits, if so many more are right with them


def attention_share(network: Network, part: Prepared, maps: EditMaps) -> dict | None:
    """The attention of the query read (see `readout`) on the erased cells, with no edit in force.

    Means over the images with a cell of value below 0.5, SAMPLE at most, seen whole; None if there is none.

    Returns:
        n, and in 0..1: `uniform`, the share of the erased cells among all N tokens; `softmax` (mean of the
        layers), `softmax_last` and `rollout`, the share of the attention on them; `sigmoid` and
        `sigmoid_others`, the mean sigmoid attention of the erased cells and of the other ones; `right_whole`
        and `right_erased`, the share of right answers to the whole images, and with the erased cells taken
        away in the layers and rows that EDIT_LAYERS and EDIT_QUERIES name.
    """
    erased_in = np.flatnonzero(maps.erases)
    if not len(erased_in):
        return None
    chosen = erased_in[np.linspace(0, len(erased_in) - 1, min(SAMPLE, len(erased_in))).round().astype(int)]
    found = network.attention_maps(part, chosen)
    erased = maps.erased[chosen].float()
    count, others = erased.sum((1, 2)), (1 - erased).sum((1, 2))
    softmax = (found.softmax * erased[:, None]).sum((2, 3)).mean(0)
    sigmoid = found.sigmoid.mean(1)
    some = others > 0
    tokens = network.model.num_prefix_tokens + erased[0].numel()
    shares = {
        "uniform": (count / tokens).mean(),
        "softmax": softmax.mean(),
        "softmax_last": softmax[-1],
        "rollout": (found.rollout * erased).sum((1, 2)).mean(),
        "sigmoid": ((sigmoid * erased).sum((1, 2)) / count).mean(),
        "sigmoid_others": ((sigmoid * (1 - erased)).sum((1, 2)) / others)[some].mean(),
    }
    s, labels = network.settings, torch.from_numpy(part.part.labels[chosen])
    scope = dict(layers=parse_layers(s.edit_layers), queries=s.edit_queries)
    edit = AttentionEdit(maps.value[chosen], maps.erased[chosen], **scope)
    for name, in_force in (("right_whole", None), ("right_erased", edit)):
        answers = network.logits_under(part, chosen, in_force).argmax(1)
        shares[name] = (answers == labels).double().mean()
    return {"n": len(chosen), **{name: value.item() for name, value in shares.items()}}


def summary(before: dict, after: dict, aligned: bool) -> str:
    """The shares before and after in a text, which says so where they hardly fell although `aligned`."""

    def change(name: str) -> str:
        return f"{before[name]:.3f} -> {after[name]:.3f}"

    text = (
        f"attention on the erased cells of {before['n']} training images, no edit in force "
        f"(if it were uniform: {before['uniform']:.3f}):\n"
        f"  softmax, mean of the layers {change('softmax')}; last layer {change('softmax_last')}; "
        f"rollout {change('rollout')}\n"
        f"  sigmoid, of an erased cell {change('sigmoid')}; of another cell {change('sigmoid_others')}\n"
        f"right of these images, whole {change('right_whole')}; "
        f"with the erased cells taken away {change('right_erased')}"
    )
    if aligned and after["softmax"] > (1 - LITTLE) * before["softmax"]:
        text += "\n  attention on the erased cells hardly fell: it did not learn the edits"
    if aligned and after["right_erased"] - after["right_whole"] > APART:
        text += (
            "\n  the network needs the edits, and in use none is in force: more EPOCHS or a larger "
            "CONSISTENCY or ATTN_LAMBDA may teach it to do without"
        )
    return text
