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
def test_the_estimate_adds_up_to_erasing_all_cells(kwargs, monkeypatch):
    monkeypatch.setattr(decision, "STEPS", 200)
    model, images = tiny_model(**kwargs).double(), torch.randn(2, 3, 32, 32).double()
    found = decision_map(model, images, 1, exact=False)
    everything = [(row, column) for row in range(4) for column in range(4)]
    with torch.no_grad():
        expected = (erased(model, images, []) - erased(model, images, everything))[:, 1]
    torch.testing.assert_close(found.sum((1, 2)), expected.float(), atol=0.02, rtol=0.02)


def test_the_estimate_leaves_the_network_alone():
    model = tiny_model()
    decision_map(model, torch.randn(1, 3, 32, 32), exact=False)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="there is no class"):
        decision_map(tiny_model(), torch.randn(1, 3, 32, 32), 5)
