"""What changed from one network to a later one: outcomes, fixed and broken images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sigmoid_vit.figures.attention_maps import attention_map, decision_map_axes
from sigmoid_vit.figures.captions import change_numbers, change_texts, query_names
from sigmoid_vit.figures.style import Picture, beside, headed, style
from sigmoid_vit.runs.network import Predictions

KINDS = ("decision", "attention")


class Maps(NamedTuple):
    """What one network decides by on B images, and its sigmoid attention; grids of its own."""

    decision: Tensor  # of its own answer, in nats [B, gh, gw]
    attention: Tensor  # last block, head mean, 0..1 [B, gh, gw]
    exact: bool = True  # whether the decision map is, or estimated

    @classmethod
    def of(cls, predictions: Predictions, chosen: list[int]) -> "Maps":
        """The maps of the images at these positions."""
        attention = predictions.attention(chosen).mean(1)
        return cls(predictions.decision_maps(chosen), attention, predictions.network.erases_every_cell)


def outcomes_picture(change: dict, title: str) -> Picture:
    """What `compare_predictions` found: right and wrong before and after, and McNemar's test."""
    counts = {name: len(change[name]) for name in ("fixed", "broken")}
    return Picture(draw_outcomes(change, title), {**change, **counts})


def changed_pictures(
    before: Predictions, after: Predictions, change: dict, count: int
) -> dict[str, Picture | None]:
    """At most `count` fixed and broken images of a `change`, with what both networks decide by.

    Returns:
        fixed and broken; None where there is no such image, or none is to be shown.
    """
    ids, drawn = after.part.part.ids, {}
    for name, order in (("fixed", "gain"), ("broken", "loss")):
        chosen = [ids.index(image_id) for image_id in change[name][:count]]
        title = f"{after.title} against {before.network.name}"
        title += f"\n{len(change[name])} {name}, largest {order} first"
        drawn[name] = _changed(before, after, chosen, title) if chosen else None
    return drawn


def _changed(before: Predictions, after: Predictions, chosen: list[int], title: str) -> Picture:
    texts, query = change_texts(before, after, chosen), query_names(before.network, after.network)
    maps = (Maps.of(predictions, chosen) for predictions in (before, after))
    numbers = {"images": [after.part.part.ids[i] for i in chosen]} | change_numbers(before, after, chosen)
    return Picture(draw_before_after(after.images(chosen), *maps, texts, title, query=query), numbers)


def draw_before_after(
    images: Tensor,
    before: Maps | None,
    after: Maps,
    texts: Sequence[str],
    title: str = "",
    edits: tuple[Tensor, Tensor] | None = None,
    query: str = "class token",
) -> Figure:
    """A row per image: the image, its maps before and after, and between them the edit, if given.

    A decision map has a scale of its own, which stands below it.

    Args:
        images: uint8 [B, 3, h, w].
        before: None where there is no network before.
        after: of the later network; its grid may be another.
        texts: B texts, shown left of the rows.
        title: of the whole figure.
        edits: value in 0..1 [B, gh, gw] and edited, bool [B, gh, gw]; cells that are not edited are hatched.
        query: whose attention it is, in words.
    """
    B, (old, new) = len(images), (" before", " after") if before is not None else ("", "")
    names = ["image"] + [f"{kind}{old}" for kind in KINDS] * (before is not None)
    names += ["edit"] * (edits is not None) + [f"{kind}{new}" for kind in KINDS]
    known = " and ".join(
        dict.fromkeys("exact" if maps.exact else "estimated" for maps in (before, after) if maps)
    )
    texts, width, height = beside(texts)
    with style():
        size = 1.45 * len(names) + width + 0.9, B * max(1.45, height + 0.1) + 0.8
        figure = Figure(figsize=size, layout="compressed")
        axes = figure.subplots(B, len(names), squeeze=False)
        for i, row in enumerate(axes):
            row[0].imshow(images[i].permute(1, 2, 0).cpu().numpy())
            row[0].set_ylabel(texts[i], rotation=0, ha="right", va="center")
            decision_map_axes(row[-2], after.decision[i])
            scale = attention_map(row[-1], after.attention[i])
            if before is not None:
                decision_map_axes(row[1], before.decision[i])
                attention_map(row[2], before.attention[i])
            if edits is not None:
                _edit_map(row[-3], edits[0][i], edits[1][i])
            for ax in row:
                ax.set(xticks=[], yticks=[])
        for ax, name in zip(axes[0], names, strict=True):
            ax.set_title(name)
        figure.colorbar(scale, ax=axes, shrink=min(1, 3 / size[1]), pad=0.01, label="sigmoid attention")
        lines = [
            *title.splitlines(),
            f"decision map, {known} (red: for the network's own answer)",
            f"sigmoid attention ({query}), last block, head mean",
        ]
        if edits is not None and not edits[1].all():
            lines.append("hatched cells are not edited")
        headed(figure, "\n".join(lines))
    return figure


def draw_outcomes(change: dict, title: str = "") -> Figure:
    """How many images both networks have right or wrong, which changed, and McNemar's test of the change.

    Args:
        change: as `comparison.compare_predictions` returns it.
        title: of the whole figure.
    """
    fixed, broken = len(change["fixed"]), len(change["broken"])
    counts = [[change["both_right"], broken], [fixed, change["both_wrong"]]]
    kinds = [["right both times", "broken"], ["fixed", "wrong both times"]]
    accuracy, n = change["accuracy"], change["n"]
    with style():
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow([[count / n for count in row] for row in counts], cmap="cividis", vmin=0, vmax=1)
        for row in range(2):
            for column in range(2):
                count = counts[row][column]
                colour = "black" if count / n > 0.5 else "white"
                text = f"{count}\n{kinds[row][column]}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
        axes.set_xticks(range(2), ["right", "wrong"])
        axes.set_yticks(range(2), ["right", "wrong"])
        axes.set(xlabel=f"after: accuracy {accuracy['run']:.3f}")
        axes.set(ylabel=f"before: accuracy {accuracy['against']:.3f}")
        figure.colorbar(image, ax=axes, label=f"share of the {n} images")
        test = f"McNemar's exact test: {fixed} fixed, {broken} broken, p = {change['mcnemar_p']:.2g}"
        headed(figure, f"{title}\n{test}".strip())
    return figure


def _edit_map(axes: Axes, value: Tensor, edited: Tensor) -> None:
    """Edited values [gh, gw] on the scale 0..1; where `edited` is False, the hatched ground shows."""
    axes.patch.set(facecolor="0.9", edgecolor="0.6", hatch="////")
    attention_map(axes, value.masked_fill(~edited, torch.nan))
