"""The decision map equals erasing each cell by an edit; the estimate adds up to erasing all of them."""

import pytest
import torch
from helpers.reference import materialised, tiny_model

from sigmoid_vit import AttentionEdit, UserError, decision_map
from sigmoid_vit.model import decision

KINDS = [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}, {"qk_norm": True}]


def erased(model, images, cells):
    """Log-probabilities [B, K] of the network written out, with these cells (row, column) erased."""
    value = torch.zeros(len(images), 4, 4)
    edited = torch.zeros_like(value, dtype=torch.bool)
    for row, column in cells:
        edited[:, row, column] = True
    edit = AttentionEdit(value, edited) if cells else None
    return materialised(model, images, edit)[0].log_softmax(1)


@pytest.mark.parametrize("kwargs", KINDS)
@torch.no_grad()
def test_each_cell_has_the_effect_of_erasing_it(kwargs, monkeypatch):
    monkeypatch.setattr(decision, "PASSES", 5)  # chunks that cut through images
    model, images = tiny_model(**kwargs), torch.randn(3, 3, 32, 32)
    target, against = torch.tensor([0, 3, 4]), torch.tensor([1, 1, 2])
    found = decision_map(model, images, target, against)
    assert found.shape == (3, 4, 4)
    assert found.dtype == torch.float32
    own = erased(model, images, [])
    for row in range(4):
        for column in range(4):
            fall = own - erased(model, images, [(row, column)])
            expected = (fall.gather(1, target[:, None]) - fall.gather(1, against[:, None])).squeeze(1)
            torch.testing.assert_close(found[:, row, column], expected, atol=2e-5, rtol=1e-3)


@torch.no_grad()
def test_without_a_class_the_predicted_one_is_explained():
    model, images = tiny_model(), torch.randn(2, 3, 32, 32)
    predicted = model(images).argmax(1)
    assert torch.equal(decision_map(model, images), decision_map(model, images, predicted))
    both = decision_map(model, images, 2, 0)
    difference = decision_map(model, images, 2) - decision_map(model, images, 0)
    torch.testing.assert_close(both, difference, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kwargs", KINDS[:2])
def test_the_estimate_is_exact_where_it_erases_and_the_gradient_elsewhere(kwargs, monkeypatch):
    model, images = tiny_model(**kwargs).double(), torch.randn(2, 3, 32, 32).double()
    exact = decision_map(model, images, 1)
    assert torch.equal(decision_map(model, images, 1, exact=False), exact)  # REFINED is all of 4 x 4
    monkeypatch.setattr(decision, "REFINED", 3)
    found = decision_map(model, images, 1, exact=False)
    erased = found == exact
    assert erased.flatten(1).sum(1).tolist() == [3, 3]
    slope = decision._gradient(model, model.embed(images), (torch.tensor([1, 1]), None), (4, 4))
    slope = slope.unflatten(1, (4, 4))
    assert torch.equal(found[~erased], slope[~erased])


def test_the_gradient_is_the_effect_of_a_slightly_smaller_weight():
    model, images = tiny_model().double(), torch.randn(2, 3, 32, 32).double()
    found = decision._gradient(model, model.embed(images), (torch.tensor([1, 1]), None), (4, 4))
    step, bias = 1e-4, torch.zeros(2, 1, 1, 17).double()
    bias[..., 1 + 5] = -step
    with torch.no_grad():
        before, after = (model(images, attn_mask=b).log_softmax(1)[:, 1] for b in (0 * bias, bias))
    torch.testing.assert_close(found[:, 5], ((before - after) / step).float(), atol=1e-3, rtol=1e-2)


def test_the_estimate_needs_no_gradient_from_outside_and_leaves_none(monkeypatch):
    monkeypatch.setattr(decision, "REFINED", 3)
    model, images = tiny_model(), torch.randn(1, 3, 32, 32)
    found = decision_map(model, images, exact=False)
    with torch.inference_mode():
        assert torch.equal(decision_map(model, images.clone(), exact=False), found)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="there is no class"):
        decision_map(tiny_model(), torch.randn(1, 3, 32, 32), 5)


@torch.no_grad()
def test_under_an_edit_each_cell_has_the_effect_of_erasing_it_as_well(monkeypatch):
    model, images = tiny_model(), torch.randn(2, 3, 32, 32)
    value, edited = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    value[0, 3, 3], edited[0, :2, :2], edited[0, 3, 3] = 0.9, True, True
    edit = AttentionEdit(value, edited)
    found = decision_map(model, images, 1, edit=edit)
    assert not found[:, :2, :2].any()  # they are erased already
    for row, column in ((2, 1), (3, 3)):
        both = AttentionEdit(value.clone(), edited.clone())
        both.value[0, row, column], both.edited[0, row, column] = 0, True
        fall = (model(images, edit=edit).log_softmax(1) - model(images, edit=both).log_softmax(1))[:, 1]
        torch.testing.assert_close(found[:, row, column], fall, atol=2e-5, rtol=1e-3)
    monkeypatch.setattr(decision, "REFINED", 3)
    estimate = decision_map(model, images, 1, exact=False, edit=edit)
    assert (estimate == found).flatten(1).sum(1).min() >= 3
    with pytest.raises(UserError, match="needs one of all layers"):
        decision_map(model, images, 1, edit=AttentionEdit(value, edited, queries="cls"))
