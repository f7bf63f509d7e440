"""What a network decides by on some images, and its attention in every head and layer."""

from collections.abc import Sequence

import torch
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit.data import Prepared
from sigmoid_vit.figures.captions import prediction_text, prediction_texts
from sigmoid_vit.figures.style import Picture, beside, headed, style
from sigmoid_vit.model.readout import query_name, sigmoid_attention
from sigmoid_vit.runs.network import Network, Predictions

ATTENTION_COLOURS = "viridis"
DECISION_COLOURS = "RdBu_r"  # red: speaks for the class
LAYERS_SHOWN = 3  # images whose attention is shown in all layers
ACROSS = 6  # layers or heads side by side
WIDTH, CELL = 7.6, 1.15  # inches of all maps side by side, and of one, with what is around it, at most


def heads_picture(network: Network, part: Prepared, chosen: list[int], title: str = "") -> Picture:
    """The images at these positions with their decision map and their sigmoid attention in the last layer.

    The numbers are of the decision map and of the attention's head mean, beside what the network predicts.
    """
    inputs = network.inputs(part, chosen)
    class_logits, maps = sigmoid_attention(network.model, inputs)
    effects = network.decision_map(inputs)
    probabilities, maps, labels = class_logits.float().softmax(1).cpu(), maps.cpu(), part.part.labels[chosen]
    ids, numbers = [part.part.ids[i] for i in chosen], {}
    texts = [
        prediction_text(image_id, p, label, network.classes)
        for image_id, p, label in zip(ids, probabilities, labels.tolist(), strict=True)
    ]
    known = "exact" if network.erases_every_cell else "estimated"
    shown = zip(ids, probabilities, labels, effects, maps.mean(1), strict=True)
    for image_id, p, label, effect, values in shown:
        numbers[image_id] = {
            "prediction": network.classes[p.argmax()],
            "probability": p.max(),
            "true": network.classes[label],
            "probability of true": p[label],
            "cell that decides most (row, column)": strongest_cell(effect),
            f"{known} effect of erasing it, in nats": effect.max(),
            "strongest cell of attention (row, column)": strongest_cell(values),
            "its sigmoid attention": values.max(),
        }
    query = query_name(network.model)
    heading = (
        f"{title}\ndecision map, {known} (red: for the prediction); sigmoid attention ({query}), last block"
    )
    figure = draw_heads(part.pixels(chosen), effects, maps, texts, heading.strip())
    return Picture(figure, numbers)


def attention_pictures(
    predictions: Predictions, chosen: list[int], title: str, in_layers: int | None = None
) -> dict[str, Picture]:
    """Pictures of the images at these positions: `heads`, every head of the last block; `layers`, all layers.

    Args:
        title: what is shown, behind the name of the run.
        in_layers: how many of the images are shown in all layers; None for all of them.
    """
    network, few = predictions.network, chosen[:in_layers]
    title, ids = f"{predictions.title}: {title}", predictions.part.part.ids
    heads = heads_picture(network, predictions.part, chosen, title)
    if len(few) < len(chosen):
        title += f", the first {len(few)} of {len(chosen)}"
    maps = predictions.attention_maps(few)
    texts, query = prediction_texts(predictions, few), query_name(network.model)
    figure = draw_layers(predictions.images(few), *maps, texts, title, query)
    kinds = (("sigmoid", maps.sigmoid), ("softmax", maps.softmax))
    numbers = {
        ids[i]: {f"max of {kind} by layer": values[k].amax((1, 2)) for kind, values in kinds}
        for k, i in enumerate(few)
    }
    return {"heads": heads, "layers": Picture(figure, numbers)}


def strongest_cell(values: Tensor) -> tuple[int, int]:
    """Row and column of the largest of the values [gh, gw]; the first of equals."""
    return divmod(int(values.argmax()), values.shape[1])


def draw_heads(
    images: Tensor, effects: Tensor, maps: Tensor, titles: Sequence[str], title: str = ""
) -> Figure:
    """Per image: the image, its decision map, its sigmoid attention as head mean and in heads, ACROSS a row.

    The decision map has a scale of its own, which stands below it.

    Args:
        images: uint8 [B, 3, h, w].
        effects: decision maps in nats, [B, gh, gw].
        maps: sigmoid attention in 0..1, [B, H, gh, gw].
        titles: B texts, shown left of the images.
        title: of the whole figure.
    """
    B, H = maps.shape[:2]
    heads = _in_rows([f"head {h}" for h in range(H)])
    mosaic = [
        [f"image {i}", f"decision map {i}", f"head mean {i}", *(name and f"{name} {i}" for name in row)]
        for i in range(B)
        for row in heads
    ]
    titles, width, height = beside(titles)
    across = 3 + len(heads[0])
    cell = min(CELL, WIDTH / across)
    with style():
        size = cell * across + width + 0.9, B * max((cell + 0.15) * len(heads), height) + 0.6
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplot_mosaic(mosaic, empty_sentinel="")
        for i in range(B):
            axes[f"image {i}"].imshow(images[i].permute(1, 2, 0).numpy())
            axes[f"image {i}"].set_ylabel(titles[i], rotation=0, ha="right", va="center")
            decision_map_axes(axes[f"decision map {i}"], effects[i])
            shown = {"head mean": maps[i].mean(0)} | {f"head {h}": maps[i, h] for h in range(H)}
            for name, values in shown.items():
                scale = attention_map(axes[f"{name} {i}"], values)
            for name in ("image", "decision map", *shown):
                axes[f"{name} {i}"].set(xticks=[], yticks=[], title=name if i == 0 or len(heads) > 1 else "")
        figure.colorbar(
            scale, ax=list(axes.values()), pad=0.01, label="sigmoid attention", shrink=min(1, 3 / size[1])
        )
        headed(figure, title)
    return figure


def draw_layers(
    images: Tensor,
    sigmoid: Tensor,
    softmax: Tensor,
    rollout: Tensor,
    titles: Sequence[str],
    title: str = "",
    query: str = "class token",
) -> Figure:
    """Per image sigmoid attention of every layer, below it softmax attention, and at the side rollout.

    Layers stand ACROSS side by side. Softmax attention and rollout are shares of a sum over all tokens; each
    such map is divided by its maximum, which stands below it.

    Args:
        images: uint8 [B, 3, h, w].
        sigmoid, softmax: head means of every layer, 0..1 [B, layers, gh, gw].
        rollout: 0..1 [B, gh, gw].
        titles: B texts, shown left of the images.
        title: of the whole figure.
        query: whose attention it is, in words.
    """
    B, L = sigmoid.shape[:2]
    layers = _in_rows([f"layer {k}" for k in range(L)])
    mosaic = [
        [f"image {i}", *(name and f"{kind} {name} {i}" for name in row), f"rollout {i}"]
        for i in range(B)
        for row in layers
        for kind in ("sigmoid", "softmax")
    ]
    titles, width, height = beside(titles)
    ratios = (1.7, *[1] * len(layers[0]), 1.7)
    cell = min(CELL, WIDTH / sum(ratios))
    with style():
        size = cell * sum(ratios) + width + 1, B * max((2 * cell + 0.6) * len(layers), height) + 0.7
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplot_mosaic(mosaic, width_ratios=ratios, empty_sentinel="")
        for i in range(B):
            axes[f"image {i}"].imshow(images[i].permute(1, 2, 0).numpy())
            axes[f"image {i}"].set_ylabel(titles[i], rotation=0, ha="right", va="center")
            scale = _of_maximum(axes[f"rollout {i}"], rollout[i])
            for k in range(L):
                above, below = (axes[f"{kind} layer {k} {i}"] for kind in ("sigmoid", "softmax"))
                attention_map(above, sigmoid[i, k])
                _of_maximum(below, softmax[i, k])
                above.set_title(f"layer {k}" if i == 0 or len(layers) > 1 else "")
                if k % ACROSS == 0:
                    above.set_ylabel("sigmoid")
                    below.set_ylabel("softmax")
        for ax in axes.values():
            ax.set(xticks=[], yticks=[])
        for name in ("image", "rollout"):
            axes[f"{name} 0"].set_title(name)
        label = "sigmoid attention;\nsoftmax and rollout: share of the maximum"
        figure.colorbar(scale, ax=list(axes.values()), pad=0.01, label=label, shrink=min(1, 3 / size[1]))
        headed(figure, f"{title}\nattention ({query}) in every layer, head mean".strip())
    return figure


def decision_map_axes(axes: Axes, effect: Tensor) -> None:
    """Draw a decision map [gh, gw] on its own scale around 0, the end of which is written below."""
    effect = torch.as_tensor(effect).float()
    largest = effect.abs().max().item()
    axes.imshow(effect.numpy(), cmap=DECISION_COLOURS, norm=colors.CenteredNorm(0, largest or 1))
    axes.set_xlabel(f"±{largest:.2g} nats", labelpad=2)


def attention_map(axes: Axes, values: Tensor):
    """Draw attention values [gh, gw] on the fixed scale 0..1; returns the colour scale."""
    values = torch.as_tensor(values).float().numpy()
    return axes.imshow(values, cmap=ATTENTION_COLOURS, vmin=0, vmax=1)


def _in_rows(names: Sequence[str]) -> list[list[str]]:
    """Names in rows of at most ACROSS, the last one filled up with "" if there is more than one."""
    across = min(ACROSS, len(names))
    names = [*names, *[""] * (-len(names) % across)]
    return [names[k : k + across] for k in range(0, len(names), across)]


def _of_maximum(axes: Axes, values: Tensor):
    """Draw shares [gh, gw] divided by their maximum, which is written below."""
    axes.set_xlabel(f"max {values.max():.2g}", labelpad=2)
    return attention_map(axes, values / values.max())
