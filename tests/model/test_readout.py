"""What is read of the attention is that of the network written out, N x N rows and all."""

import pytest
import torch
from helpers.reference import materialised, random_edit, tiny_model

from sigmoid_vit import UserError
from sigmoid_vit.model.readout import (
    attention_maps,
    on_grid,
    query_name,
    query_rows,
    rollout,
    sigmoid_attention,
    sigmoid_map,
    softmax_attention,
    softmax_map,
)

LAYERS = 3
VARIANTS = {  # arguments of the network, its prefix tokens, and the rows read where no patch is named
    "plain": ({}, 1, slice(0, 1)),
    "registers": ({"reg_tokens": 2}, 3, slice(0, 1)),
    "no class token": ({"class_token": False, "global_pool": "avg"}, 0, slice(0, None)),
    "registers alone": ({"class_token": False, "global_pool": "avg", "reg_tokens": 2}, 2, slice(2, None)),
}


@pytest.fixture(params=VARIANTS)
def written_out(request):
    """A network, its prefix tokens and rows, images, and what `materialised` makes of them."""
    kwargs, prefix, rows = VARIANTS[request.param]
    model = tiny_model(**kwargs)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model, prefix, rows, images, materialised(model, images)


def on_cells(x, rows, prefix):
    """The mean over some rows of [..., N, N], on the 4 x 4 cells."""
    return x[..., rows, prefix:].mean(-2).unflatten(-1, (4, 4))


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_all_maps_are_those_of_the_network_written_out(written_out):
    model, prefix, rows, images, (expected, logits, attention) = written_out
    class_logits, maps = attention_maps(model, images)
    assert_close(class_logits, expected)
    assert maps.sigmoid.shape == maps.softmax.shape == (2, LAYERS, 4, 4)
    product = torch.eye(prefix + 16)
    for i in range(LAYERS):
        assert_close(maps.sigmoid[:, i], on_cells(logits[i].sigmoid().mean(1), rows, prefix))
        assert_close(maps.softmax[:, i], on_cells(attention[i].mean(1), rows, prefix))
        product = (attention[i].mean(1) + torch.eye(prefix + 16)) / 2 @ product
    assert_close(maps.rollout, on_cells(product, rows, prefix))


@pytest.mark.parametrize("layer", [0, 1, -1, "last"])
def test_one_layer_is_that_of_the_network_written_out(written_out, layer):
    model, prefix, rows, images, (expected, logits, attention) = written_out
    at = LAYERS - 1 if layer == "last" else layer % LAYERS
    class_logits, sigmoid = sigmoid_attention(model, images, layer)
    assert_close(class_logits, expected)
    assert_close(sigmoid, on_cells(logits[at].sigmoid(), rows, prefix))
    class_logits, softmax = softmax_attention(model, images, layer)
    assert_close(class_logits, expected)
    assert_close(softmax, on_cells(attention[at].mean(1), rows, prefix))


@pytest.mark.parametrize("query", [0, 6, 15])
def test_a_patch_as_query_is_its_own_row(written_out, query):
    model, prefix, _, images, (expected, logits, _) = written_out
    row = slice(prefix + query, prefix + query + 1)
    class_logits, sigmoid = sigmoid_attention(model, images, 1, query)
    assert_close(class_logits, expected)
    assert_close(sigmoid, on_cells(logits[1].sigmoid(), row, prefix))


@pytest.mark.parametrize("query", [None, 9])
def test_under_an_edit_the_attention_is_the_one_before_the_edit_in_its_layer(written_out, query):
    model, prefix, rows, images, (plain, unedited, _) = written_out
    edit = random_edit(queries="all", layers=[0, 2])
    with torch.no_grad():
        expected, logits, _ = materialised(model, images, edit)
    rows = rows if query is None else slice(prefix + query, prefix + query + 1)
    for layer in range(LAYERS):
        class_logits, sigmoid = sigmoid_attention(model, images, layer, query, edit)
        assert_close(class_logits, expected)
        assert_close(sigmoid, on_cells(logits[layer].sigmoid(), rows, prefix))
    assert not torch.allclose(expected, plain, atol=1e-3)
    assert_close(logits[0], unedited[0])
    assert not torch.allclose(logits[1], unedited[1], atol=1e-3)


def test_a_map_is_the_mean_of_its_rows_and_prefix_tokens_are_left_out():
    logits = torch.randn(2, 3, 4, 2 + 6)  # three heads, four rows, two prefix tokens and 2 x 3 patches
    assert_close(sigmoid_map(logits, (2, 3)), logits.sigmoid()[..., 2:].mean(2).view(2, 3, 2, 3))
    assert_close(softmax_map(logits, (2, 3)), logits.softmax(-1)[..., 2:].mean((1, 2)).view(2, 2, 3))
    assert on_grid(torch.arange(8), (2, 3)).tolist() == [[2, 3, 4], [5, 6, 7]]


def test_rollout_on_paper_and_against_the_plain_product():
    one = torch.tensor([[[0.2, 0.8], [0.5, 0.5]]])
    torch.testing.assert_close(rollout([one], slice(0, 1)), torch.tensor([[0.6, 0.4]]))
    two = torch.tensor([[[1.0, 0.0], [0.4, 0.6]]])  # [1, 0; 0.2, 0.8] after [0.6, 0.4; 0.25, 0.75]
    torch.testing.assert_close(rollout([one, two], slice(0, 1)), torch.tensor([[0.6, 0.4]]))
    torch.testing.assert_close(rollout([two, one], slice(0, 1)), torch.tensor([[0.68, 0.32]]))
    layers = [torch.randn(2, 5, 5).softmax(-1) for _ in range(3)]
    mixed = [(layer + torch.eye(5)) / 2 for layer in layers]
    product = mixed[2] @ mixed[1] @ mixed[0]
    torch.testing.assert_close(rollout(layers, slice(0, 1)), product[:, 0])
    torch.testing.assert_close(rollout(layers, slice(1, None)), product[:, 1:].mean(1))


def test_the_grid_follows_the_images_where_the_network_does():
    model = tiny_model(dynamic_img_size=True)
    images = torch.randn(1, 3, 48, 40)
    assert model.grid((48, 40)) == (6, 5)
    assert tiny_model(img_size=(32, 48)).grid((32, 48)) == (4, 6)
    _, maps = attention_maps(model, images)
    assert maps.softmax.shape == (1, LAYERS, 6, 5)
    _, _, attention = materialised(model, images)
    assert_close(maps.softmax[:, 2], attention[2][:, :, 0, 1:].mean(1).unflatten(-1, (6, 5)))


@pytest.mark.parametrize(
    "name, words", [("plain", "class token"), ("registers alone", "mean over all patches")]
)
def test_what_stands_for_no_query_is_named(name, words):
    kwargs, _, rows = VARIANTS[name]
    model = tiny_model(**kwargs)
    assert query_name(model) == words
    assert query_rows(model) == rows


def test_a_patch_that_is_not_there_is_refused():
    for query in (-1, 16):
        with pytest.raises(UserError, match=f"no patch {query}; patches are numbered 0 to 15"):
            sigmoid_attention(tiny_model(), torch.randn(1, 3, 32, 32), query=query)


def test_reading_takes_no_gradient():
    model, images = tiny_model(), torch.randn(1, 3, 32, 32)
    for read in (attention_maps, sigmoid_attention, softmax_attention):
        assert not read(model, images)[0].requires_grad
