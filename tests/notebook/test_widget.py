"""The widgets show what the network computes under the edit that they describe."""

import ipywidgets
import pytest
import torch

from sigmoid_vit import AttentionEdit
from sigmoid_vit.data import load_data
from sigmoid_vit.notebook.widget import EditWidget
from sigmoid_vit.runs.folder import Run
from sigmoid_vit.runs.network import Network

IMAGE, CELLS = 11, (slice(2, 5), slice(0, 2))


@pytest.fixture(scope="module")
def predictions(place):
    """Of a network whose predictions depend on its attention."""
    network = Network.of_run(Run(place / "result/first"))
    with torch.no_grad():
        network.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        for block in network.model.blocks:
            block.attn.qkv.weight.mul_(15)
    return network.predict(network.prepare(load_data("digits_decoy").val))


@pytest.fixture
def tried(predictions):
    """The widgets set to an edit of rows 2 to 4 and columns 0 and 1."""
    tried = EditWidget(predictions)
    tried.image.value, tried.layer.value, tried.head.value, tried.query.value = IMAGE, 1, 0, 8
    tried.rows.value, tried.columns.value, tried.value.value = (2, 4), (0, 1), 0.7
    return tried


def test_a_widget_that_moves_draws_another_picture(predictions, tried):
    assert isinstance(tried.widget, ipywidgets.VBox)
    drawn = [EditWidget(predictions).view.value, tried.view.value]
    for layers, queries in (("this", "all"), ("this", "cls")):
        tried.layers.value, tried.queries.value = layers, queries
        drawn.append(tried.view.value)
    assert len(set(drawn)) == 4
    assert tried.picture.numbers["image"] == predictions.part.part.ids[IMAGE]


@pytest.mark.parametrize(
    "layers, queries, scope", [("all", "all", "all"), ("this", "all", 1), ("this", "cls", 1)]
)
def test_the_probabilities_are_those_of_the_network(predictions, tried, layers, queries, scope):
    network = predictions.network
    value, edited = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.bool)
    value[0][CELLS], edited[0][CELLS] = 0.7, True
    tried.layers.value, tried.queries.value = layers, queries
    x = predictions.inputs([IMAGE])
    edit = AttentionEdit(value, edited, scope, queries=queries).to(x.device)
    with torch.no_grad():
        without, under = (p.softmax(1)[0].cpu() for p in (network.model(x), network.model(x, edit=edit)))
    assert (without - under).abs().max() > 1e-4
    shown = tried.picture.numbers["probability"]
    bars = [label.get_text().split()[0] for label in tried.picture.figure.axes[3].get_yticklabels()]
    assert list(shown) == bars
    assert tried.picture.numbers["true"] in bars
    for name, p in shown.items():
        k = network.classes.index(name)
        assert p["without the edit"].item() == pytest.approx(without[k].item(), abs=1e-5), name
        assert p["with the edit"].item() == pytest.approx(under[k].item(), abs=1e-5), name


@pytest.mark.parametrize("layers, where", [("all", "all layers"), ("this", "layer 1")])
def test_the_title_says_what_is_edited_and_what_is_shown(tried, layers, where):
    tried.layers.value = layers
    numbers, title = tried.picture.numbers, tried.picture.figure.get_suptitle()
    assert f"rows 2 to 4, columns 0 to 1 set to 0.7 in {where}, " in numbers["edit"]
    assert numbers["attention shown"] == "layer 1, head 0, patch at row 1, column 2"
    assert numbers["edit"] in title
    assert numbers["attention shown"] in title
