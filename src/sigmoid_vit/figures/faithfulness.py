"""Whether the prediction depends on what attention names: insertion and deletion."""

from matplotlib.figure import Figure

from sigmoid_vit.figures.style import Picture, headed, style
from sigmoid_vit.runs.network import Predictions

ORDERS = {  # of insertion and deletion: name, and how its curve is drawn
    "decision": ("decision map", dict(color="#440154", marker="^", markersize=3)),
    "sigmoid": ("sigmoid attention, last block", dict(color="#31688e", marker="o", markersize=3)),
    "rollout": ("rollout", dict(color="#d95f02", marker="s", markersize=3)),
    "random": ("random order", dict(color="#777777", linestyle="--")),
}


def faithfulness_picture(predictions: Predictions, curves: dict) -> Picture:
    """Insertion and deletion, as `attention_quality.faithfulness` returns them."""
    return Picture(draw_insertion_deletion(curves, predictions.title), curves)


def draw_insertion_deletion(faithfulness: dict, title: str = "") -> Figure:
    """The mean curves of `attention_quality.faithfulness`: cells taken away, and cells brought in."""
    with style():
        figure = Figure(figsize=(7, 3.9), layout="constrained")
        for axes, kind, done in zip(
            figure.subplots(1, 2, sharey=True),
            ("deletion", "insertion"),
            ("taken away", "brought in"),
            strict=True,
        ):
            for order, (name, drawn_as) in ORDERS.items():
                curve = faithfulness[order][f"{kind}_curve"]
                label = f"{name}: {faithfulness[order][f'{kind}_auc']:.3f}"
                axes.plot(faithfulness["share"], curve, label=label, clip_on=False, **drawn_as)
            better = "lower" if kind == "deletion" else "higher"
            axes.set(xlabel=f"share of cells {done}, strongest first", xlim=(0, 1), ylim=(0, 1), title=kind)
            legend = dict(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
            axes.legend(title=f"area under the curve ({better} is better)", **legend)
        figure.axes[0].set_ylabel("probability of the predicted class")
        headed(figure, f"{title}\nmean over {faithfulness['n']} images".strip())
    return figure
