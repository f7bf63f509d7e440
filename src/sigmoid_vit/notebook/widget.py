"""The method to try: widgets that write one value into the map of one image."""

import ipywidgets as widgets
import torch

from sigmoid_vit.figures.attention_maps import strongest_cell
from sigmoid_vit.figures.one_edit import edit_effect
from sigmoid_vit.figures.style import Picture, rendered
from sigmoid_vit.model.edit import AttentionEdit
from sigmoid_vit.model.readout import query_name
from sigmoid_vit.runs.network import Predictions

NAMED = 8  # errors and hits whose numbers are listed above the menus
NONE = -1  # the menu entry that stands for None: the mean over the heads, the class token as query
WIDE = {"description_width": "90px"}


class EditWidget:
    """Widgets for one image of a part, and the picture of the prediction under the edit they describe.

    `widget` is what the notebook shows; `picture` is its present picture.
    """

    def __init__(self, predictions: Predictions) -> None:
        self.predictions, network = predictions, predictions.network
        gh, gw = network.grid
        errors, hits = predictions.confident_errors(NAMED), predictions.surest_hits(NAMED)
        first = [*errors, *hits][0]
        row, column = strongest_cell(predictions.decision_maps([first])[0])
        layers, heads = network.model.depth, network.model.num_heads
        self.image = widgets.BoundedIntText(
            value=first, min=0, max=len(predictions.part) - 1, description="image", style=WIDE
        )
        self.layer = _choice("layer", [(str(k), k) for k in range(layers)], layers - 1)
        self.head = _choice("head", [("mean", NONE), *((str(k), k) for k in range(heads))], NONE)
        cells = [(f"row {k // gw}, column {k % gw}", k) for k in range(gh * gw)]
        self.query = _choice("query", [(query_name(network.model), NONE), *cells], NONE)
        self.rows, self.columns = _range("rows", row, gh), _range("columns", column, gw)
        self.value = widgets.FloatSlider(
            value=0.0, min=0, max=1, step=0.01, description="value", continuous_update=False, style=WIDE
        )
        self.layers = _choice("applies to", [("all layers", "all"), ("this layer", "this")], "all")
        scopes = [("all query rows", "all"), ("class token's row", "cls")]
        self.queries = _choice("and to", scopes[: 1 + network.model.has_class_token], "all")
        self.view = widgets.Image(format="png")
        hint = widgets.HTML(f"most confident errors: {_listed(errors)}; surest hits: {_listed(hits)}")
        controls = (self.image, self.layer, self.head, self.query)
        scope = (self.rows, self.columns, self.value, self.layers, self.queries)
        for control in (*controls, *scope):
            control.observe(self.draw, names="value")
        columns = widgets.HBox([widgets.VBox(controls), widgets.VBox(scope)])
        self.widget = widgets.VBox([hint, columns, self.view])
        self.draw()

    @property
    def edit(self) -> AttentionEdit:
        """The edit that the widgets describe, of one image."""
        value = torch.full((1, *self.predictions.network.grid), self.value.value)
        edited = torch.zeros_like(value, dtype=torch.bool)
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        edited[0, top : bottom + 1, left : right + 1] = True
        layers = "all" if self.layers.value == "all" else self.layer.value
        return AttentionEdit(value, edited, layers, queries=self.queries.value)

    def draw(self, change: object = None) -> None:
        """Compute the prediction under the present edit and show it."""
        head, query = (None if c.value == NONE else c.value for c in (self.head, self.query))
        about = (self.image.value, self.edit, self.layer.value, head, query)
        self.picture: Picture = edit_effect(self.predictions, *about)
        self.view.value = rendered(self.picture.figure, dpi=100)


def _choice(name: str, options: list[tuple], value: object) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, value=value, description=name, style=WIDE)


def _range(name: str, start: int, size: int) -> widgets.IntRangeSlider:
    shown_as = dict(description=name, continuous_update=False, style=WIDE)
    return widgets.IntRangeSlider(value=(start, start), min=0, max=size - 1, **shown_as)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
