"""Where a network looks, and whether its answer depends on it."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit import plots
from sigmoid_vit.answers import Answers, answer_text, looks, sigmoid_attention
from sigmoid_vit.data import BatchTransform, Prepared
from sigmoid_vit.model import SigmoidViT
from sigmoid_vit.pictures.picture import Picture

LAYERS_SHOWN = 3  # images whose attention is shown in all layers


def attention_figure(
    model: SigmoidViT,
    part: Prepared,
    transform: BatchTransform,
    chosen: list[int],
    classes: list[str],
    title: str = "",
) -> Figure:
    """The images at these positions with their sigmoid attention, head mean and every head."""
    images, labels, index = next(part.batches([np.array(chosen)]))
    device = next(model.parameters()).device
    class_logits, maps = sigmoid_attention(model, transform(images.to(device), index))
    probabilities = class_logits.float().softmax(dim=1).cpu()
    titles = [
        answer_text(part.part.ids[i], p, label, classes)
        for i, p, label in zip(chosen, probabilities, labels.tolist(), strict=True)
    ]
    return plots.attention_grid(images, maps.cpu(), titles, title, looks(model))


def attention_pictures(answers: Answers, chosen: list[int], title: str, in_layers: int | None = None) -> dict:
    """Pictures of the images at these positions: `heads`, every head of the last block; `layers`, all layers.

    Args:
        title: what is shown, behind the name of the run.
        in_layers: how many of the images are shown in all layers; None for all of them.
    """
    network, few = answers.network, chosen[:in_layers]
    title, who = f"{answers.title}: {title}", looks(network.model)
    about = (network.model, answers.part, network.transform, chosen, network.classes, title)
    heads = Picture(attention_figure(*about), _strongest(answers, chosen, answers.attention(chosen)))
    if len(few) < len(chosen):
        title += f", the first {len(few)} of {len(chosen)}"
    views = answers.views(few)
    kinds = (("sigmoid", views.sigmoid), ("softmax", views.softmax))
    figure = plots.attention_layers(answers.images(few), *views, answers.texts(few), title, who)
    numbers = {
        answers.part.part.ids[i]: {f"max of {kind} by layer": maps[k].amax((1, 2)) for kind, maps in kinds}
        for k, i in enumerate(few)
    }
    return {"heads": heads, "layers": Picture(figure, numbers)}


def _strongest(answers: Answers, chosen: list[int], maps: Tensor) -> dict:
    """Where the head mean of maps [B, H, gh, gw] is strongest, beside the answer."""
    numbers = {}
    for i, values in zip(chosen, maps.mean(1), strict=True):
        p, label = answers.probabilities[i], answers.labels[i]
        numbers[answers.part.part.ids[i]] = {
            "answer": answers.network.classes[p.argmax()],
            "probability": p.max(),
            "true": answers.network.classes[label],
            "probability of true": p[label],
            "strongest cell (row, column)": strongest_cell(values),
            "its sigmoid attention": values.max(),
        }
    return numbers


def strongest_cell(values: Tensor) -> tuple[int, int]:
    """Row and column of the largest of the values [gh, gw]; the first of equals."""
    return divmod(int(values.argmax()), values.shape[1])


def faithfulness(answers: Answers, curves: dict) -> Picture:
    """Insertion and deletion, as `attention_quality.faithfulness` returns them."""
    return Picture(plots.insertion_deletion(curves, answers.title), curves)
