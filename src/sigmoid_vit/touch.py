"""The method explained by touching it: widgets that write one value into the map of one image."""

import io

import ipywidgets as widgets
import torch

from sigmoid_vit import pictures, plots
from sigmoid_vit.answers import Answers, looks
from sigmoid_vit.edits import AttentionEdit
from sigmoid_vit.metrics import confident_errors, confident_hits
from sigmoid_vit.pictures import Picture

NAMED = 8  # errors and hits whose numbers are given as a start
NONE = -1  # of heads and queries: the mean, and the class token; a menu shows None as nothing
WIDE = {"description_width": "90px"}


class Touch:
    """Widgets for one image of a part, and the picture of the network's answer to what they say.

    `widget` is what the notebook shows; `picture` is its present picture.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers, network = answers, answers.network
        gh, gw = network.grid
        errors, hits = self._some(confident_errors), self._some(confident_hits)
        first = [*errors, *hits][0]
        row, column = pictures.strongest_cell(answers.attention([first])[0].mean(0))
        layers, heads = len(network.model.blocks), network.model.blocks[0].attn.num_heads
        self.image = widgets.BoundedIntText(
            value=first, min=0, max=len(answers.part) - 1, description="image", style=WIDE
        )
        self.layer = _choice("layer", [(str(k), k) for k in range(layers)], layers - 1)
        self.head = _choice("head", [("mean", NONE), *((str(k), k) for k in range(heads))], NONE)
        cells = [(f"row {k // gw}, column {k % gw}", k) for k in range(gh * gw)]
        self.query = _choice("query", [(looks(network.model), NONE), *cells], NONE)
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
        value = torch.full((1, *self.answers.network.grid), self.value.value)
        edited = torch.zeros_like(value, dtype=torch.bool)
        (top, bottom), (left, right) = self.rows.value, self.columns.value
        edited[0, top : bottom + 1, left : right + 1] = True
        layers = "all" if self.layers.value == "all" else self.layer.value
        return AttentionEdit(value, edited, layers, queries=self.queries.value)

    def draw(self, change: object = None) -> None:
        """Compute the answer to the present edit and show it."""
        head, query = (None if c.value == NONE else c.value for c in (self.head, self.query))
        about = (self.image.value, self.edit, self.layer.value, head, query)
        self.picture: Picture = pictures.edited_answer(self.answers, *about)
        buffer = io.BytesIO()
        with plots.style():
            self.picture.figure.savefig(buffer, format="png", dpi=100)
        self.view.value = buffer.getvalue()

    def _some(self, choose) -> list[int]:
        return choose(self.answers.probabilities, self.answers.labels, NAMED)


def _choice(name: str, options: list[tuple], value: object) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, value=value, description=name, style=WIDE)


def _range(name: str, start: int, size: int) -> widgets.IntRangeSlider:
    look = dict(description=name, continuous_update=False, style=WIDE)
    return widgets.IntRangeSlider(value=(start, start), min=0, max=size - 1, **look)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
